//! An HTTP/2 client that does not read its responses.

/// The bytes of `streams` HTTP/2 requests without a key, of a client that has room for no byte of a response body (RFC 9113,
/// 6.5.2).
pub fn requests_with_a_closed_window(streams: u32) -> Vec<u8> {
    const SETTINGS: u8 = 4;
    const HEADERS: u8 = 1;
    const END_STREAM_AND_HEADERS: u8 = 5;
    const INITIAL_WINDOW_SIZE_0: &[u8] = &[0, 4, 0, 0, 0, 0];
    // GET, http, / and the authority "a" (RFC 7541, appendix A).
    const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, INITIAL_WINDOW_SIZE_0));
    for n in 0..streams {
        bytes.extend(frame(HEADERS, END_STREAM_AND_HEADERS, 2 * n + 1, GET));
    }
    bytes
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}
