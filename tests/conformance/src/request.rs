//! A request, valid or not, as the bytes of HTTP/1.1 and as the frames of HTTP/2. Nothing is checked or corrected.

/// Name and value of a header.
pub type Header = (Vec<u8>, Vec<u8>);

/// A request that both versions of HTTP can carry.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The method.
    pub method: Vec<u8>,
    /// The request target.
    pub target: Vec<u8>,
    /// Headers in order, without `host`.
    pub headers: Vec<Header>,
    /// The body.
    pub body: Vec<u8>,
    /// Trailers after the body.
    pub trailers: Vec<Header>,
}

/// The frames of HTTP/2 that begin a connection: the preface, and settings without a dynamic table, so that the
/// response can be read without one.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x0c\x04\x00\x00\x00\x00\x00\
    \x00\x01\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00";
/// Maximum frame size in bytes that a peer accepts by default (RFC 9113, 6.5.2).
const FRAME: usize = 16_384;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

// === impl Request ===

impl Request {
    /// A GET of a target.
    pub fn get(target: impl Into<Vec<u8>>) -> Self {
        Self { method: b"GET".to_vec(), target: target.into(), ..Self::default() }
    }

    /// The same request with another method.
    pub fn method(mut self, method: impl Into<Vec<u8>>) -> Self {
        self.method = method.into();
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Adds a trailer.
    pub fn trailer(mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.trailers.push((name.into(), value.into()));
        self
    }

    /// The bytes of the request in HTTP/1.1.
    pub fn http1(&self) -> Vec<u8> {
        let mut bytes = [self.method.as_slice(), b" ", &self.target, b" HTTP/1.1\r\nhost: edge\r\n"].concat();
        let names_connection = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"connection"));
        if !names_connection {
            bytes.extend_from_slice(b"connection: close\r\n");
        }
        push_lines(&mut bytes, &self.headers);
        if !self.trailers.is_empty() {
            bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
            bytes.extend_from_slice(format!("{:x}\r\n", self.body.len().max(1)).as_bytes());
            bytes.extend_from_slice(if self.body.is_empty() { b"x" } else { &self.body });
            bytes.extend_from_slice(b"\r\n0\r\n");
            push_lines(&mut bytes, &self.trailers);
        } else if !self.body.is_empty() {
            bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", self.body.len()).as_bytes());
            bytes.extend_from_slice(&self.body);
            return bytes;
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    /// The frames of HTTP/2, with names in lower case, as HTTP/2 requires.
    pub fn http2(&self) -> Vec<u8> {
        let pseudo: [(&[u8], &[u8]); 4] = [
            (b":method", &self.method),
            (b":scheme", b"http"),
            (b":authority", b"edge"),
            (b":path", &self.target),
        ];
        let mut fields: Vec<Header> =
            pseudo.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        fields.extend(self.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())));
        frames(&fields, &self.body, &self.trailers)
    }
}

fn push_lines(bytes: &mut Vec<u8>, headers: &[Header]) {
    for (name, value) in headers {
        bytes.extend_from_slice(&[name.as_slice(), b": ", value, b"\r\n"].concat());
    }
}

/// A connection of HTTP/2 with one request of exactly these fields.
pub fn frames(fields: &[Header], body: &[u8], trailers: &[Header]) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    let is_alone = body.is_empty() && trailers.is_empty();
    push_headers(&mut bytes, fields, is_alone);
    if !body.is_empty() {
        let flags = if trailers.is_empty() { END_STREAM } else { 0 };
        push_frame(&mut bytes, DATA, flags, body);
    }
    if !trailers.is_empty() {
        push_headers(&mut bytes, trailers, true);
    }
    bytes
}

fn push_headers(bytes: &mut Vec<u8>, fields: &[Header], ends: bool) {
    let block: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
    let mut pieces = block.chunks(FRAME).peekable();
    let mut kind = HEADERS;
    while let Some(piece) = pieces.next() {
        let last = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        let end = if ends && kind == HEADERS { END_STREAM } else { 0 };
        push_frame(bytes, kind, last | end, piece);
        kind = CONTINUATION;
    }
}

fn push_frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, payload: &[u8]) {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
    bytes.extend_from_slice(payload);
}

/// A literal field without indexing, with a new name (RFC 7541, 6.2.2), not compressed.
fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        push_length(&mut bytes, text.len());
        bytes.extend_from_slice(text);
    }
    bytes
}

/// An integer with a prefix of seven bits (RFC 7541, 5.1).
fn push_length(bytes: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else {
        bytes.push(length as u8);
        return;
    };
    bytes.push(127);
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    bytes.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_the_standard_has_it() {
        for (length, expected) in [(10, vec![10]), (127, vec![127, 0]), (1_464, vec![127, 0xb9, 10])] {
            let mut bytes = Vec::new();
            push_length(&mut bytes, length);
            assert_eq!(bytes, expected);
        }
    }

    #[test]
    fn nothing_is_put_right() {
        let request = Request::get("/a b\u{ff}").header("x\0y", "1").trailer("t", "2");
        let bytes = request.http1();
        assert!(bytes.starts_with("GET /a b\u{ff} HTTP/1.1\r\n".as_bytes()));
        assert!(bytes.windows(8).any(|part| part == b"x\0y: 1\r\n"));
        assert!(bytes.ends_with(b"1\r\nx\r\n0\r\nt: 2\r\n\r\n"));
    }
}
