//! The attacks, derived from the paths that a key may and may not call.
//!
//! Each family is a few cases, and each case many variants: every encoding of a slash with every encoding of a dot,
//! every byte at a place, every wrong character of a key.

mod credentials;
mod headers;
mod messages;
mod paths;

pub use self::headers::REWRITING;
use crate::edge::Edge;
use crate::exchange::{Ending, Version};
use crate::request::Request;

/// The value that a client sends in headers that only the filter may set. No upstream may receive it.
pub const FORGED: &str = "forged-by-a-client";

/// One attack.
#[derive(Clone, Debug)]
pub struct Variant {
    /// The attacked property.
    pub family: &'static str,
    /// The idea.
    pub case: &'static str,
    /// A description of the variant.
    pub name: String,
    /// The sent data.
    pub wire: Wire,
    /// The expected outcome.
    pub expect: Expect,
    /// Maximum number of requests that an edge may read in it.
    pub requests: usize,
    /// Whether it is incomplete.
    pub is_open: bool,
}

/// The sent data.
#[derive(Clone, Debug)]
pub enum Wire {
    /// A request that both versions of HTTP can carry.
    Both(Request),
    /// Bytes of HTTP/1.1.
    Http1(Vec<u8>),
    /// Frames of HTTP/2.
    Http2(Vec<u8>),
}

/// The expected outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It may pass, if the upstream receives a permitted request.
    Judged,
    /// It must not reach the upstream.
    Refused,
}

/// All attacks on an edge.
pub fn all(edge: &Edge<'_>) -> Vec<Variant> {
    let mut all = paths::variants(edge);
    all.extend(credentials::variants(edge));
    all.extend(headers::variants(edge));
    all.extend(messages::variants(edge));
    all
}

// === impl Variant ===

impl Variant {
    fn new(family: &'static str, case: &'static str, name: impl Into<String>, wire: Wire) -> Self {
        Self { family, case, name: name.into(), wire, expect: Expect::Judged, requests: 1, is_open: false }
    }

    /// A valid request.
    pub fn good(request: Request) -> Self {
        Self::new("", "", "", Wire::Both(request))
    }

    fn refused(self) -> Self {
        Self { expect: Expect::Refused, ..self }
    }

    /// The bytes for a version of HTTP, if that version can carry the attack, and how they end.
    pub fn bytes(&self, version: Version) -> Option<(Vec<u8>, Ending)> {
        let is_head = matches!(&self.wire, Wire::Both(request) if request.method == b"HEAD");
        let ending = Ending { is_open: self.is_open, is_head, is_raw: !matches!(self.wire, Wire::Both(_)) };
        let bytes = match (&self.wire, version) {
            (Wire::Both(request), Version::Http1) => request.http1(),
            (Wire::Both(request), Version::Http2) => request.http2(),
            (Wire::Http1(bytes), Version::Http1) | (Wire::Http2(bytes), Version::Http2) => bytes.clone(),
            _ => return None,
        };
        Some((bytes, ending))
    }
}

/// A GET of a target with the key.
fn with_key(edge: &Edge<'_>, target: impl Into<Vec<u8>>) -> Request {
    Request::get(target).header("x-api-key", edge.key.as_str())
}

/// Bytes in printable form.
fn shown(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string();
    text.chars().take(120).collect()
}
