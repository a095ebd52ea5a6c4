//! A serialized header map: the number of headers, the lengths of each name and value, then names and values, each followed by a
//! zero byte.

use proxy_wasm::types::Bytes;

/// The size of a number in bytes.
const NUMBER: usize = 4;

/// A header map that is read in place.
pub(crate) struct HeaderMap(Bytes);

impl HeaderMap {
    /// Parses a map whose lengths add up to its size. Any other map counts as empty. Otherwise, a request with a header
    /// that the filter cannot see would be served with that header beside the filter's own.
    pub(crate) fn new(bytes: Bytes) -> Self {
        if is_complete(&bytes) { Self(bytes) } else { Self(Bytes::new()) }
    }

    /// All headers in order, repeated names included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        let (count, rest) = number(&self.0).unwrap_or_default();
        let lengths = rest.get(..count.saturating_mul(2 * NUMBER)).unwrap_or_default();
        let mut texts = rest.get(lengths.len()..).unwrap_or_default();
        lengths.chunks_exact(2 * NUMBER).map_while(move |lengths| {
            let (name_length, lengths) = number(lengths)?;
            let (value_length, _) = number(lengths)?;
            let (name, rest) = text(texts, name_length)?;
            let (value, rest) = text(rest, value_length)?;
            texts = rest;
            Some((name, value))
        })
    }
}

impl HeaderMap {
    /// The first header of a name.
    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The value of `:status`.
    pub(crate) fn status(&self) -> Option<u16> {
        parse_status(self.get(b":status")?)
    }
}

/// Whether the bytes contain exactly the headers that they announce.
fn is_complete(bytes: &[u8]) -> bool {
    let Some((count, rest)) = number(bytes) else { return bytes.is_empty() };
    let Some((lengths, texts)) = rest.split_at_checked(count.saturating_mul(2 * NUMBER)) else {
        return false;
    };
    let lengths = lengths.chunks_exact(NUMBER).filter_map(|length| number(length));
    // Each text is followed by a zero byte.
    lengths.fold(0_usize, |sum, (length, _)| sum.saturating_add(length).saturating_add(1)) == texts.len()
}

/// A number in a header.
pub(crate) fn parse_number(value: &[u8]) -> Option<u32> {
    core::str::from_utf8(value).ok()?.parse().ok()
}

/// The status in a `:status` header.
pub(crate) fn parse_status(value: &[u8]) -> Option<u16> {
    core::str::from_utf8(value).ok()?.parse().ok()
}

fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<NUMBER>()?;
    Some((u32::from_le_bytes(*number) as usize, rest))
}

fn text(bytes: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    let (text, rest) = bytes.split_at_checked(length)?;
    Some((text, rest.strip_prefix(b"\0")?))
}

/// Serializes a header map.
#[cfg(test)]
pub(crate) fn serialized(headers: &[(&str, &[u8])]) -> Bytes {
    let texts: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    let mut bytes = Bytes::with_capacity(NUMBER + headers.len() * 2 * NUMBER + texts);
    let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    bytes.extend(number(headers.len()));
    for (name, value) in headers {
        bytes.extend(number(name.len()));
        bytes.extend(number(value.len()));
    }
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(value);
        bytes.push(0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serialized_headers_are_read_back() {
        let headers: [(&str, &[u8]); 4] =
            [(":path", b"/a"), ("x", b""), ("cookie", b"a\xff\0b"), ("cookie", b"c")];
        let read = HeaderMap::new(serialized(&headers));
        let expected: Vec<_> = headers.iter().map(|(name, value)| (name.as_bytes(), *value)).collect();
        assert_eq!(read.iter().collect::<Vec<_>>(), expected);
        assert_eq!(serialized(&[]), [0; 4]);
        assert_eq!(HeaderMap::new(Bytes::new()).iter().count(), 0);
    }

    #[test]
    fn truncated_or_damaged_maps_yield_whole_headers_only() {
        let whole = serialized(&[("a", b"1"), ("b", b"2")]);
        for end in 0..whole.len() {
            assert!(HeaderMap::new(whole[..end].to_vec()).iter().count() < 2, "cut at {end}");
        }
        let damaged = [
            [&u32::MAX.to_le_bytes()[..], b"ab"].concat(),
            [&1u32.to_le_bytes()[..], &u32::MAX.to_le_bytes(), &u32::MAX.to_le_bytes(), b"a\0b\0"].concat(),
        ];
        for bytes in damaged {
            assert_eq!(HeaderMap::new(bytes).iter().count(), 0);
        }
    }
}
