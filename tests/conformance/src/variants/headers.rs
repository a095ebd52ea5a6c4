//! Headers with which a client impersonates the filter, or makes the upstream serve something else.

use super::{FORGED, Variant, Wire, shown, with_key};
use crate::edge::Edge;
use crate::request::Request;

const FAMILY: &str = "headers";
const IDENTITY: [&str; 9] = [
    "x-omniflow-key-id",
    "x-omniflow-key-name",
    "x-omniflow-environment",
    "x-omniflow-scopes",
    "x-omniflow-admin",
    "x-omniflow-",
    "x-omniflow-key",
    "x-omniflow-x",
    "x-omniflow-route",
];
/// Headers with which some frameworks override method or path.
pub const REWRITING: [&str; 18] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-method",
    "x-forwarded-method",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-forwarded-uri",
    "x-forwarded-prefix",
    "x-forwarded-path",
    "x-original-path",
    "x-envoy-original-path",
    "x-script-name",
    "x-ms-original-url",
    "x-waws-unencoded-url",
    "x-http-path-override",
    "x-rewrite-uri",
];

pub(super) fn variants(edge: &Edge<'_>) -> Vec<Variant> {
    let mut all = Vec::new();
    for name in IDENTITY.iter().chain(&REWRITING) {
        all.extend(forged(edge, name));
    }
    all.extend(nominated(edge));
    all.extend(values(edge));
    all
}

fn spellings(name: &str) -> Vec<String> {
    let mut all = vec![name.to_owned(), name.to_ascii_uppercase()];
    // Names that CGI, WSGI and others map to the same name.
    all.extend(
        ["_", ".", "+", "!", "~", "*", "'", "|", "^", "`", "#", "$", "%", "&"]
            .iter()
            .map(|fold| name.replace('-', fold)),
    );
    all.push(name.replacen('-', "_", 1));
    all
}

fn forged(edge: &Edge<'_>, name: &str) -> Vec<Variant> {
    let mut all = Vec::new();
    let mut add = |case, shown: String, request: Request| {
        all.push(Variant::new(FAMILY, case, shown, Wire::Both(request)));
    };
    for spelling in spellings(name) {
        let request = || with_key(edge, edge.allowed.as_str());
        let spelled = spelling.as_str();
        add("a forged header", spelled.to_owned(), request().header(spelled, FORGED));
        let twice = request().header(spelled, FORGED).header(spelled, FORGED);
        add("a forged header twice", spelled.to_owned(), twice);
        add(
            "before the credential",
            spelled.to_owned(),
            Request::get(edge.allowed.as_str())
                .header(spelled, FORGED)
                .header("x-api-key", edge.key.as_str()),
        );
        add("a forged trailer", spelled.to_owned(), request().body("x").trailer(spelled, FORGED));
        let bytes = [FORGED.as_bytes(), b"\xff\xfe"].concat();
        add("a forged header outside UTF-8", spelled.to_owned(), request().header(spelled, bytes));
    }
    for (case, odd) in [
        ("white space before the colon", format!("{name} ")),
        ("white space before the name", format!(" {name}")),
        ("a tab before the colon", format!("{name}\t")),
        ("a NUL in the name", format!("{name}\0")),
        ("a line of its own", format!("x: y\r\n{name}")),
        ("aggregated", format!("x: y\r\n {name}")),
        ("a bare carriage return", format!("x: y\r{name}")),
        ("a bare line feed", format!("x: y\n{name}")),
    ] {
        add(case, shown(odd.as_bytes()), with_key(edge, edge.allowed.as_str()).header(odd, FORGED));
    }
    for separator in ["\r\n", "\n", "\r", "\0", "\r\n ", "%0d%0a", "\u{85}", "\u{2028}"] {
        let value = format!("y{separator}{name}: {FORGED}-smuggled");
        add(
            "in another header's value",
            shown(value.as_bytes()),
            with_key(edge, edge.allowed.as_str()).header("x-note", split_marker(&value)),
        );
    }
    all
}

/// A forged value inside another header is harmless: only a header of that name counts. So the value is not [`FORGED`].
fn split_marker(value: &str) -> String {
    value.replace(FORGED, "smuggled")
}

/// `Connection` names headers that a proxy removes on the way: here those of the filter, or the credential.
fn nominated(edge: &Edge<'_>) -> Vec<Variant> {
    let mut all = Vec::new();
    for named in
        IDENTITY.iter().copied().chain(["x-api-key", "authorization", "x-request-id", "host", ":path", "te"])
    {
        for value in [
            format!("close, {named}"),
            format!("{named}, close"),
            format!("keep-alive, {named}"),
            named.to_owned(),
        ] {
            let request = with_key(edge, edge.allowed.as_str()).header("connection", value.as_str());
            all.push(Variant::new(FAMILY, "named in Connection", value, Wire::Both(request)));
        }
    }
    all
}

/// Values that crash a VM if they are treated as text, or that are unexpectedly long.
fn values(edge: &Edge<'_>) -> Vec<Variant> {
    let mut all = Vec::new();
    for byte in 0..=u8::MAX {
        if !matches!(byte, b'\n' | b'\r') {
            let request = with_key(edge, edge.allowed.as_str()).header("x-note", vec![b'a', byte, b'b']);
            all.push(Variant::new(FAMILY, "any byte in a value", format!("{byte:02x}"), Wire::Both(request)));
        }
        if byte != b':' {
            let name = [b"x-a".as_slice(), &[byte], b"b"].concat();
            let request = with_key(edge, edge.allowed.as_str()).header(name, "1");
            all.push(Variant::new(FAMILY, "any byte in a name", format!("{byte:02x}"), Wire::Both(request)));
        }
    }
    for name in [
        "content-type",
        "user-agent",
        "x-request-id",
        "x-forwarded-for",
        "traceparent",
        "content-encoding",
        "accept",
    ] {
        for value in [b"\xff\xfe\xc3".to_vec(), Vec::new(), "é".repeat(500).into_bytes(), vec![b'a'; 30_000]]
        {
            let request = with_key(edge, edge.allowed.as_str()).header(name, value.clone());
            all.push(Variant::new(
                FAMILY,
                "an odd value",
                format!("{name}: {} bytes", value.len()),
                Wire::Both(request),
            ));
        }
    }
    for count in [50, 90, 99, 200, 1_000] {
        let mut request = with_key(edge, edge.allowed.as_str());
        for n in 0..count {
            request = request.header(format!("x-h{n}"), "1");
        }
        all.push(Variant::new(FAMILY, "many headers", count.to_string(), Wire::Both(request)));
    }
    for length in [8_000, 50_000, 60_000, 100_000] {
        let request = with_key(edge, edge.allowed.as_str()).header("x-long", vec![b'a'; length]);
        all.push(Variant::new(FAMILY, "a long header", length.to_string(), Wire::Both(request)));
    }
    all
}
