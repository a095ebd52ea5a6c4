//! Messages that two parties might split differently, and messages that violate their version of HTTP.

use super::{FORGED, Variant, Wire, shown};
use crate::edge::Edge;
use crate::request::{Header, frames};

const FAMILY: &str = "messages";

/// Lines about the transfer coding of a body; the last is none.
const TRANSFER_ENCODINGS: [&str; 22] = [
    "transfer-encoding: chunked",
    "Transfer-Encoding : chunked",
    "transfer-encoding:\tchunked",
    "transfer-encoding: xchunked",
    "transfer-encoding: chunked, identity",
    "transfer-encoding: identity, chunked",
    "transfer-encoding: chunked\r\ntransfer-encoding: x",
    "transfer-encoding: x\r\ntransfer-encoding: chunked",
    "transfer-encoding:\r\n chunked",
    "transfer-encoding: \"chunked\"",
    "transfer-encoding: CHUNKED",
    "transfer-encoding: chunked\0",
    "transfer-encoding: \x0bchunked",
    "transfer_encoding: chunked",
    "transfer-encoding\t: chunked",
    " transfer-encoding: chunked",
    "x: y\rtransfer-encoding: chunked",
    "transfer-encoding: gzip, chunked",
    "transfer-encoding;: chunked",
    "x: y\ntransfer-encoding: chunked",
    "te: trailers\r\ntransfer-encoding: chunked;q=1",
    "",
];

/// Wrong versions in a request line.
const VERSIONS: [&str; 10] = [
    "HTTP/1.0",
    "HTTP/0.9",
    "HTTP/2.0",
    "HTTP/1.2",
    "HTTP/1.1 ",
    "http/1.1",
    "HTTP/1",
    "XTTP/1.1",
    "HTTP/1.1x",
    "",
];

/// Header lines with a meaning for the connection, and malformed ones.
const HEADER_LINES: [&str; 14] = [
    "expect: 100-continue\r\ncontent-length: 1\r\n",
    "expect: x\r\n",
    "upgrade: websocket\r\nconnection: upgrade\r\n",
    "upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
    "upgrade: x\r\nconnection: upgrade\r\n",
    "te: trailers, chunked\r\n",
    "max-forwards: 0\r\n",
    "range: bytes=0-0\r\n",
    ":path: /\r\n",
    ":method: DELETE\r\n",
    ": x\r\n",
    "x\r\n",
    "\u{0}: x\r\n",
    "proxy-connection: close\r\n",
];

pub(super) fn variants(edge: &Edge<'_>) -> Vec<Variant> {
    let mut all = smuggled(edge);
    all.extend(lines(edge));
    all.extend(pseudo_headers(edge));
    all.extend(fields(edge));
    all
}

/// Ways to state the length of a body, with a second request hidden in it for a party that interprets the length
/// differently.
fn smuggled(edge: &Edge<'_>) -> Vec<Variant> {
    let Some(forbidden) = edge.forbidden.first() else { return Vec::new() };
    let hidden = format!("GET {forbidden} HTTP/1.1\r\nhost: edge\r\nx-omniflow-key-id: {FORGED}\r\n\r\n");
    let chunked = format!("0\r\n\r\n{hidden}");
    let (length, short) = (chunked.len(), 4);
    let mut all = Vec::new();
    for transfer in TRANSFER_ENCODINGS {
        for lengths in [
            String::new(),
            format!("content-length: {length}\r\n"),
            format!("content-length: {short}\r\n"),
            "content-length: 0\r\n".to_owned(),
            format!("content-length: {short}\r\ncontent-length: {length}\r\n"),
            format!("content-length: {length}, {short}\r\n"),
            format!("content-length: +{short}\r\n"),
            format!("content-length: 0x{short}\r\n"),
            format!("content-length: -{short}\r\n"),
            format!("content-length : {short}\r\n"),
            format!("content-length: {short} \r\n"),
            "content-length: 99999999999999999999\r\n".to_owned(),
            "content-length:\r\n".to_owned(),
        ] {
            for method in ["GET", "POST"] {
                let head = format!(
                    "{method} {} HTTP/1.1\r\nhost: edge\r\nx-api-key: {}\r\n",
                    edge.allowed, edge.key
                );
                let bytes = format!("{head}{lengths}{transfer}\r\n\r\n{chunked}")
                    .replace("\r\n\r\n\r\n0", "\r\n\r\n0");
                let name = shown(format!("{method} {lengths}{transfer}").as_bytes());
                let variant = Variant::new(FAMILY, "two lengths", name, Wire::Http1(bytes.into_bytes()));
                all.push(Variant { requests: 2, is_open: true, ..variant });
            }
        }
    }
    for piece in [
        "0;x=\r\n",
        "1\r\nxx0",
        "-1\r\n",
        "1 \r\nx\r\n0\r\n\r\n",
        "0x1\r\nx\r\n",
        "ffffffffffffffffff\r\n",
        "\r\n",
        "1\nx\n0\n\n",
        "1;\nx\r\n0\r\n\r\n",
    ] {
        let head = format!(
            "GET {} HTTP/1.1\r\nhost: edge\r\nx-api-key: {}\r\ntransfer-encoding: chunked\r\n\r\n",
            edge.allowed, edge.key
        );
        let variant = Variant::new(
            FAMILY,
            "an odd chunk",
            shown(piece.as_bytes()),
            Wire::Http1(format!("{head}{piece}{hidden}").into_bytes()),
        );
        all.push(Variant { requests: 2, is_open: true, ..variant });
    }
    all
}

/// Unusual lines at the beginning or end of a message.
fn lines(edge: &Edge<'_>) -> Vec<Variant> {
    let (allowed, key) = (&edge.allowed, &edge.key);
    let forbidden = edge.forbidden.first().unwrap_or(allowed);
    let end = format!("x-api-key: {key}\r\nconnection: close\r\n\r\n");
    let mut all = Vec::new();
    let mut add = |case, is_open, text: String| {
        let name = shown(text.as_bytes()).replace(key.as_str(), "KEY");
        let variant = Variant::new(FAMILY, case, name, Wire::Http1(text.into_bytes()));
        all.push(Variant { is_open, requests: 2, ..variant });
    };
    for version in VERSIONS {
        add("a version", true, format!("GET {forbidden} {version}\r\nhost: edge\r\n{end}"));
        add("a version", true, format!("GET {allowed} {version}\r\nhost: edge\r\n{end}"));
    }
    for line in [
        format!("GET  {forbidden} HTTP/1.1\r\n"),
        format!("GET\t{forbidden}\tHTTP/1.1\r\n"),
        format!(" GET {forbidden} HTTP/1.1\r\n"),
        format!("\r\n\r\nGET {forbidden} HTTP/1.1\r\n"),
        format!("GET {forbidden}  HTTP/1.1\r\n"),
        format!("GET {forbidden} x HTTP/1.1\r\n"),
        format!("GET {allowed} {forbidden} HTTP/1.1\r\n"),
        format!("GET {allowed}\0{forbidden} HTTP/1.1\r\n"),
        format!("GET {allowed}\x0b{forbidden} HTTP/1.1\r\n"),
        format!("GET {allowed} HTTP/1.1 {forbidden} HTTP/1.1\r\n"),
        format!("GET {forbidden} HTTP/1.1\n"),
        format!("GET {forbidden} HTTP/1.1\r"),
    ] {
        add("a request line", true, format!("{line}host: edge\r\n{end}"));
    }
    for host in [
        String::new(),
        "host:\r\n".to_owned(),
        "host: edge\r\nhost: other\r\n".to_owned(),
        format!("host: edge{forbidden}\r\n"),
        format!("host: edge?{forbidden}\r\n"),
        "host: edge#\r\n".to_owned(),
        "host: \u{ff}\r\n".to_owned(),
        "host: a b\r\n".to_owned(),
        "host: edge:99999\r\n".to_owned(),
        "host: [::1\r\n".to_owned(),
        "host: x@edge\r\n".to_owned(),
    ] {
        add("a host", true, format!("GET {allowed} HTTP/1.1\r\n{host}{end}"));
        add("a host", true, format!("GET http://other{allowed} HTTP/1.1\r\n{host}{end}"));
    }
    for extra in HEADER_LINES {
        add("a header with a meaning", true, format!("GET {allowed} HTTP/1.1\r\nhost: edge\r\n{extra}{end}"));
    }
    for cut in [1, 5, 20, 40] {
        let whole = format!("GET {allowed} HTTP/1.1\r\nhost: edge\r\n{end}");
        add("cut short", true, whole[..cut.min(whole.len())].to_owned());
    }
    add("garbage", true, "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}".to_owned());
    add(
        "two in one packet",
        false,
        format!(
            "GET {allowed} HTTP/1.1\r\nhost: edge\r\nx-api-key: {key}\r\n\r\nGET {forbidden} HTTP/1.1\r\nhost: edge\r\n{end}"
        ),
    );
    add(
        "two in one packet",
        false,
        format!(
            "GET {allowed} HTTP/1.1\r\nhost: edge\r\nx-api-key: {key}\r\n\r\nGET {allowed} HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n\r\n"
        ),
    );
    all
}

/// The pseudo-headers of HTTP/2, too few, too many and in the wrong place.
fn pseudo_headers(edge: &Edge<'_>) -> Vec<Variant> {
    let forbidden = edge.forbidden.first().unwrap_or(&edge.allowed).as_str();
    let allowed = edge.allowed.as_str();
    let field = |name: &str, value: &str| -> Header { (name.into(), value.into()) };
    let key = field("x-api-key", &edge.key);
    let (method, scheme, authority, path) = (
        field(":method", "GET"),
        field(":scheme", "http"),
        field(":authority", "edge"),
        field(":path", allowed),
    );
    let usual = || vec![method.clone(), scheme.clone(), authority.clone(), path.clone(), key.clone()];
    let mut lists: Vec<(&'static str, String, Vec<Header>)> = Vec::new();
    for left_out in 0..4 {
        let mut fields = usual();
        let (name, _) = fields.remove(left_out);
        lists.push(("a pseudo-header that is missing", shown(&name), fields));
    }
    for (name, value) in [
        (":path", forbidden),
        (":path", ""),
        (":method", "DELETE"),
        (":method", "POST"),
        (":authority", "other"),
        (":scheme", "https"),
        (":status", "200"),
        (":protocol", "websocket"),
        (":x", "y"),
        (":PATH", forbidden),
        (":path ", forbidden),
        (":", "x"),
        ("::path", forbidden),
    ] {
        for at in [0, 4, 5] {
            let mut fields = usual();
            fields.insert(at, field(name, value));
            lists.push(("a pseudo-header too many", format!("{name}: {value} at {at}"), fields));
        }
    }
    for value in ["", "*", "x", "//", "edge:80", "http://edge/", forbidden.trim_start_matches('/')] {
        for word in ["GET", "CONNECT", "OPTIONS"] {
            let fields = vec![
                field(":method", word),
                scheme.clone(),
                authority.clone(),
                field(":path", value),
                key.clone(),
            ];
            lists.push(("an odd :path", format!("{word} {value}"), fields));
        }
    }
    for word in ["GET", "CONNECT"] {
        let fields = vec![field(":method", word), field(":authority", "edge:80"), key.clone()];
        lists.push(("no :path", word.to_owned(), fields));
    }
    for value in ["websocket", "connect-udp", "x"] {
        let fields = vec![
            field(":method", "CONNECT"),
            field(":protocol", value),
            scheme.clone(),
            authority.clone(),
            field(":path", forbidden),
            key.clone(),
        ];
        lists.push(("extended CONNECT", value.to_owned(), fields));
    }
    for value in ["", "edge/x", "edge?x", "edge#x", "x@edge", "edge\0", "edge\r\nx: y", "\u{ff}"] {
        let fields =
            vec![method.clone(), scheme.clone(), field(":authority", value), path.clone(), key.clone()];
        lists.push(("an odd :authority", shown(value.as_bytes()), fields));
    }
    for value in ["http", "https", "ftp", "", "http://edge/", &format!("http://edge{forbidden}?")] {
        let fields =
            vec![method.clone(), field(":scheme", value), authority.clone(), path.clone(), key.clone()];
        lists.push(("an odd :scheme", value.to_owned(), fields));
    }
    lists.into_iter().map(|(case, name, fields)| of_frames(case, name, &fields, b"")).collect()
}

/// Fields that HTTP/2 does not allow, and fields that an HTTP/1.1 upstream would read as more than one field.
fn fields(edge: &Edge<'_>) -> Vec<Variant> {
    let forbidden = edge.forbidden.first().unwrap_or(&edge.allowed).as_str();
    let start: Vec<Header> = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "edge"),
        (":path", edge.allowed.as_str()),
        ("x-api-key", edge.key.as_str()),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .to_vec();
    let hidden =
        format!("x\r\n\r\nGET {forbidden} HTTP/1.1\r\nhost: edge\r\nx-omniflow-key-id: {FORGED}\r\n\r\n");
    let mut all = Vec::new();
    for (name, value) in [
        ("connection", "close"),
        ("connection", "x-omniflow-key-id"),
        ("transfer-encoding", "chunked"),
        ("keep-alive", "1"),
        ("upgrade", "h2c"),
        ("proxy-connection", "close"),
        ("te", "gzip"),
        ("te", "trailers"),
        ("content-length", "5"),
        ("content-length", "0"),
        ("content-length", "x"),
        ("host", "other"),
        ("host", forbidden),
        ("X-Upper", "1"),
        ("x-omniflow-KEY-id", FORGED),
        ("x omniflow", FORGED),
        ("x:omniflow", FORGED),
        ("", "x"),
        ("x\0", "x"),
        ("x-note", hidden.as_str()),
        (hidden.as_str(), "x"),
        ("x-note", "a\r\nx-omniflow-key-id: b"),
        ("x-note", "a\nb"),
        ("x-note", "a\0b"),
        ("x-note", " a "),
        ("cookie", "a=1"),
        ("x-note\r\nx-omniflow-key-id", FORGED),
    ] {
        let mut list = start.clone();
        list.push((name.into(), value.into()));
        for body in [b"".as_slice(), b"0\r\n\r\n"] {
            let name = shown(format!("{name}: {value}, {} bytes", body.len()).as_bytes());
            all.push(of_frames("a field", name, &list, body));
        }
        let trailers: [Header; 1] = [(name.into(), value.into())];
        let bytes = frames(&start, b"x", &trailers);
        all.push(Variant::new(
            FAMILY,
            "a trailer",
            shown(format!("{name}: {value}").as_bytes()),
            Wire::Http2(bytes),
        ));
    }
    for name in [":path", ":method", ":status"] {
        let bytes = frames(&start, b"x", &[(name.into(), forbidden.into())]);
        all.push(Variant::new(FAMILY, "a trailer", name, Wire::Http2(bytes)));
    }
    all
}

fn of_frames(case: &'static str, name: String, fields: &[Header], body: &[u8]) -> Variant {
    Variant::new(FAMILY, case, name, Wire::Http2(frames(fields, body, &[])))
}
