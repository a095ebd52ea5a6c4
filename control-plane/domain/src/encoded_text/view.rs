//! A view of a text: the text itself, or one that is encoded in it.

use std::hash::{Hash, Hasher};
use std::ops::Range;

use zeroize::Zeroizing;

/// A text with its place in the text that is searched. It may contain a secret: no Debug.
pub struct View {
    bytes: Zeroizing<Vec<u8>>,
    source: Source,
    depth: u8,
    is_joined: bool,
}

/// The place of a view in the text that is searched.
enum Source {
    /// It is the text.
    Same,
    /// Each byte comes from a range of its own.
    Each(Vec<(u32, u32)>),
    /// The range as a whole encodes it.
    Whole(Range<usize>),
}

/// A view in which each byte comes from a range of another one.
pub(super) struct Rewritten<'v> {
    view: &'v View,
    bytes: Zeroizing<Vec<u8>>,
    each: Vec<(u32, u32)>,
}

// === impl View ===

impl View {
    /// The text itself.
    pub(super) fn new(text: &[u8]) -> Self {
        Self { bytes: Zeroizing::new(text.to_vec()), source: Source::Same, depth: 0, is_joined: false }
    }

    /// A text that a range of this view encodes as a whole.
    pub(super) fn within(&self, range: Range<usize>, text: &[u8]) -> Self {
        Self {
            bytes: Zeroizing::new(text.to_vec()),
            source: Source::Whole(self.source(range)),
            depth: self.depth + 1,
            is_joined: self.is_joined,
        }
    }

    /// The decoded text.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether lines were joined, so that words that do not belong together may be one.
    pub fn is_joined(&self) -> bool {
        self.is_joined
    }

    /// The number of encodings around the text.
    pub(super) fn depth(&self) -> u8 {
        self.depth
    }

    /// The range of the text that is searched from which a range of this view comes.
    pub fn source(&self, range: Range<usize>) -> Range<usize> {
        match &self.source {
            Source::Same => range,
            Source::Whole(source) => source.clone(),
            Source::Each(each) => {
                let sources = each.get(range).unwrap_or_default();
                let (first, last) = (sources.first(), sources.last());
                first.map_or(0, |(start, _)| *start as usize)..last.map_or(0, |(_, end)| *end as usize)
            }
        }
    }
}

/// Views with the same text from the same place are the same, whatever was decoded first.
impl Hash for View {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
        self.is_joined.hash(state);
        self.source(0..self.bytes.len()).hash(state);
    }
}

// === impl Rewritten ===

impl<'v> Rewritten<'v> {
    pub(super) fn new(view: &'v View) -> Self {
        let (bytes, each) = (Vec::with_capacity(view.bytes.len()), Vec::new());
        Self { view, bytes: Zeroizing::new(bytes), each }
    }

    /// Adds bytes that a range of the view encodes.
    pub(super) fn push(&mut self, bytes: &[u8], range: Range<usize>) {
        self.bytes.extend_from_slice(bytes);
        if matches!(self.view.source, Source::Whole(_)) {
            return;
        }
        let source = self.view.source(range);
        let at = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
        self.each.extend(bytes.iter().map(|_| (at(source.start), at(source.end))));
    }

    pub(super) fn finish(self, joins: bool) -> View {
        let source = match &self.view.source {
            Source::Whole(range) => Source::Whole(range.clone()),
            Source::Same | Source::Each(_) => Source::Each(self.each),
        };
        View {
            bytes: self.bytes,
            source,
            depth: self.view.depth + 1,
            is_joined: self.view.is_joined || joins,
        }
    }
}
