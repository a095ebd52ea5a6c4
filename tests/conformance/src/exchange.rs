//! Sends one request over its own connection, and reads the responses.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// After this time without a response, an edge counts as hanging.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long to wait for the response to a request that never ends.
const PATIENCE: Duration = Duration::from_millis(150);
/// How long to wait for a second response if the connection stays open after the first, as Envoy leaves it for a while:
/// after one well-formed request, and after bytes that may contain another request.
const SHORT_SILENCE: Duration = Duration::from_millis(2);
const SILENCE: Duration = Duration::from_millis(20);

/// The responses.
#[derive(Debug, Default)]
pub struct Exchange {
    /// Status and body of each final response.
    pub answers: Vec<(u16, Vec<u8>)>,
    /// Whether the edge neither responded nor closed the connection.
    pub hung: bool,
}

/// How a response is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Whether the request is incomplete: then no response is due.
    pub is_open: bool,
    /// Whether it was a HEAD, whose responses have no body.
    pub is_head: bool,
    /// Whether it can be interpreted as several requests.
    pub is_raw: bool,
}

/// Sends these bytes and reads the responses.
pub async fn exchange(
    address: SocketAddr,
    version: Version,
    bytes: &[u8],
    ending: Ending,
) -> io::Result<Exchange> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut read = Vec::new();
    let mut end = Instant::now() + if ending.is_open { PATIENCE } else { DEADLINE };
    let mut closed = false;
    let (mut receive, mut send) = stream.split();
    // An edge may refuse and close before it has read everything, so a failed write is not an error.
    let sending = async {
        let _ = send.write_all(bytes).await;
    };
    let receiving = async {
        let mut buffer = [0; 16_384];
        loop {
            match timeout_at(end, receive.read(&mut buffer)).await {
                Ok(Ok(0) | Err(_)) => {
                    closed = true;
                    return;
                }
                Ok(Ok(count)) => read.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(_) => return,
            }
            let (answers, over) = parse(version, &read, ending.is_head);
            if over {
                return;
            }
            if !answers.is_empty() {
                end = end.min(Instant::now() + if ending.is_raw { SILENCE } else { SHORT_SILENCE });
            }
        }
    };
    tokio::select! {
        () = receiving => {}
        () = async { sending.await; std::future::pending::<()>().await } => {}
    }
    let (answers, over) = parse(version, &read, ending.is_head);
    let hung = answers.is_empty() && !over && !closed && !ending.is_open;
    Ok(Exchange { answers, hung })
}

/// The responses so far, and whether no more can follow.
fn parse(version: Version, bytes: &[u8], is_head: bool) -> (Vec<(u16, Vec<u8>)>, bool) {
    match version {
        Version::Http1 => (http1_answers(bytes, is_head), false),
        Version::Http2 => http2_answers(bytes),
    }
}

/// The complete responses, without interim ones (RFC 9112, 6.3).
fn http1_answers(bytes: &[u8], is_head: bool) -> Vec<(u16, Vec<u8>)> {
    let mut answers = Vec::new();
    let mut rest = bytes;
    while let Some(end) = find(rest, b"\r\n\r\n") {
        let (head, after) = rest.split_at(end + 4);
        let head = String::from_utf8_lossy(head).to_ascii_lowercase();
        let Some(status) = head.split(' ').nth(1).and_then(|status| status.get(..3)?.parse::<u16>().ok())
        else {
            break;
        };
        let value = |name: &str| {
            head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let length = value("content-length").and_then(|length| length.parse::<usize>().ok());
        let (body, after) = if (100..200).contains(&status) || is_head || matches!(status, 204 | 304) {
            (Vec::new(), after)
        } else if value("transfer-encoding").is_some() {
            match chunks(after) {
                Some(found) => found,
                None => break,
            }
        } else if let Some(length) = length {
            match after.split_at_checked(length) {
                Some((body, after)) => (body.to_vec(), after),
                None => break,
            }
        } else {
            (after.to_vec(), &after[after.len()..])
        };
        if !(100..200).contains(&status) {
            answers.push((status, body));
        }
        rest = after;
    }
    answers
}

fn chunks(mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let line = find(bytes, b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(bytes.get(..line)?).ok()?.trim(), 16).ok()?;
        bytes = bytes.get(line + 2..)?;
        if size == 0 {
            // Trailers up to an empty line.
            let end = if bytes.starts_with(b"\r\n") { 2 } else { find(bytes, b"\r\n\r\n")? + 4 };
            return Some((body, bytes.get(end..)?));
        }
        body.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size + 2..)?;
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The responses on the only stream of a connection, and whether the stream or the connection has ended.
fn http2_answers(bytes: &[u8]) -> (Vec<(u16, Vec<u8>)>, bool) {
    let mut answers: Vec<(u16, Vec<u8>)> = Vec::new();
    let mut rest = bytes;
    let mut over = false;
    while let [a, b, c, kind, flags, _, _, _, stream, after @ ..] = rest {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let Some((payload, after)) = after.split_at_checked(length) else { break };
        rest = after;
        match (kind, stream) {
            // HEADERS: the first field of a response is its status; trailers have none.
            (1, 1) => {
                if let Some(status) = status(payload).filter(|status| *status >= 200) {
                    answers.push((status, Vec::new()));
                }
                over |= flags & 1 != 0;
            }
            // DATA.
            (0, 1) => {
                if let Some((_, body)) = answers.last_mut() {
                    body.extend_from_slice(payload);
                }
                over |= flags & 1 != 0;
            }
            // RST_STREAM, GOAWAY.
            (3, 1) | (7, _) => over = true,
            _ => {}
        }
    }
    (answers, over)
}

/// `:status`, if it is the first field of the first block on its connection (RFC 7541).
fn status(block: &[u8]) -> Option<u16> {
    let block = match block {
        // A table size update comes first.
        [update, rest @ ..] if update & 0xe0 == 0x20 => rest,
        block => block,
    };
    match block {
        [indexed @ 0x88..=0x8e, ..] => {
            [200, 204, 206, 304, 400, 404, 500].get(usize::from(indexed - 0x88)).copied()
        }
        [0x48 | 0x08 | 0x18, 3, text @ ..] => std::str::from_utf8(text.get(..3)?).ok()?.parse().ok(),
        [0x48 | 0x08 | 0x18, length, text @ ..] if length & 0x80 != 0 => {
            digits(text.get(..usize::from(length & 0x7f))?)
        }
        _ => None,
    }
}

/// Three digits in the code of RFC 7541, appendix B: five bits for 0 to 2, six for 3 to 9.
fn digits(bytes: &[u8]) -> Option<u16> {
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let short = u16::from_str_radix(bits.get(at..at + 5)?, 2).ok()?;
        let digit = if short <= 2 {
            at += 5;
            short
        } else {
            let long = u16::from_str_radix(bits.get(at..at + 6)?, 2).ok()?;
            at += 6;
            long.checked_sub(0b01_1001)?.checked_add(3).filter(|digit| *digit <= 9)?
        };
        number = number * 10 + digit;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted() {
        let one = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".as_slice();
        assert_eq!(http1_answers(one, false), [(200, b"ok".to_vec())]);
        let two =
            [one, b"HTTP/1.1 403 No\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"].concat();
        assert_eq!(http1_answers(&two, false), [(200, b"ok".to_vec()), (403, b"no".to_vec())]);
        assert!(http1_answers(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", false).is_empty());
    }

    #[test]
    fn statuses_are_read_in_each_form() {
        assert_eq!(status(&[0x88]), Some(200));
        assert_eq!(status(&[0x20, 0x8c]), Some(400));
        assert_eq!(status(b"\x48\x03403"), Some(403));
        // "302" of RFC 7541, C.6.1.
        assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), Some(302));
        // 429: 011010 00010 011111, filled up with ones.
        assert_eq!(status(&[0x08, 0x83, 0b0110_1000, 0b0100_1111, 0b1111_1111]), Some(429));
    }
}
