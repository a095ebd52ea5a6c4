//! The argument hash is the one that a client computes with OpenSSL from the bytes that were sent, as the reference describes it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use omniflow_harness::ports::Port;
use omniflow_harness::{Call, Connection, RawConnection, Stack, StackOptions, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::CONTACTS;

const WAIT: Duration = Duration::from_secs(30);
/// The command in `docs/reference/audit-record.md`.
const DOCUMENTED: &str = r#"{ printf '%s\n' "$QUERY"; cat body; } | openssl dgst -sha256"#;

/// The data that a call sent, whose hash must be in the log.
struct Sent {
    query: String,
    body: Vec<u8>,
    /// Whether the body did not pass in full, so that `body` is only what did.
    partial: bool,
}

/// Makes calls of different shapes, each to a separate path.
struct Shapes<'a> {
    stack: &'a Stack,
    secret: String,
    sent: HashMap<String, Sent>,
}

// === impl Shapes ===

impl<'a> Shapes<'a> {
    async fn new(stack: &'a Stack) -> Self {
        let key = json!({"name": "shapes", "environment": "live", "scopes": ["contacts:read", "contacts:write"],
            "rate_limit": {"per_minute": 100_000}});
        let secret = stack.key(key).await.unwrap().secret;
        Self { stack, secret, sent: HashMap::new() }
    }

    /// Records what a call to the path of this name will send; returns its target, without a question mark if there is
    /// no query. A name that begins with a slash is the path itself.
    fn target(&mut self, name: &str, query: Option<&str>, body: &[u8], partial: bool) -> String {
        let path = if name.starts_with('/') { name.to_owned() } else { format!("{CONTACTS}/{name}") };
        let sent = Sent { query: query.unwrap_or_default().to_owned(), body: body.to_vec(), partial };
        assert!(self.sent.insert(path.clone(), sent).is_none(), "{name} stands twice");
        query.map_or(path.clone(), |query| format!("{path}?{query}"))
    }

    /// A call whose body is sent in one piece, or in frames chosen by the client.
    fn call(&mut self, method: &str, name: &str, query: Option<&str>, body: &[u8]) -> Call {
        let target = self.target(name, query, body, false);
        Call::new(method, &target).header("x-api-key", &self.secret).body(body)
    }

    /// The head of a request in HTTP/1.1 up to and without its empty line.
    fn head(&mut self, method: &str, target: &str) -> String {
        format!("{method} {target} HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\n", self.secret)
    }

    async fn raw(&self, bytes: &[u8]) -> u16 {
        omniflow_harness::client::exchange(self.stack.envoy.port(), bytes).await.unwrap().status
    }

    /// Compares all of them with the output of OpenSSL for the sent data.
    async fn check(&self) {
        let query = "key=shapes&limit=500";
        let records = eventually(WAIT, || async {
            let records = self.stack.control_plane.audit(query).await?;
            ensure!(records.len() == self.sent.len(), "{} of {}", records.len(), self.sent.len());
            Ok(records)
        })
        .await
        .unwrap();
        let mut wrong = Vec::new();
        for record in &records {
            let path = record["path"].as_str().unwrap();
            let sent = &self.sent[path];
            let expected = openssl(self.stack.folder(), &sent.query, &sent.body);
            let found = (record["argument_hash"].as_str().unwrap(), &record["argument_hash_partial"]);
            if found != (expected.as_str(), &Value::Bool(sent.partial)) {
                wrong.push(format!("{path}: {found:?} instead of {expected}, partial {}", sent.partial));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

/// Runs the documented command in a folder that contains the body as a file.
fn openssl(folder: &Path, query: &str, body: &[u8]) -> String {
    fs::write(folder.join("body"), body).unwrap();
    let output =
        Command::new("sh").args(["-c", DOCUMENTED]).env("QUERY", query).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    // Releases of OpenSSL print different text before it.
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().last().unwrap().to_owned()
}

/// The body in chunks of these sizes, over and over.
fn chunked(body: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut rest, mut sizes) = (body, sizes.iter().cycle());
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
        bytes.extend_from_slice(format!("{:x};odd=\"1\"\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
        rest = after;
    }
    bytes.extend_from_slice(b"0\r\n");
    bytes
}

fn large() -> Vec<u8> {
    (0..1u32 << 20).map(|n| (n % 251) as u8).collect()
}

#[test]
fn reference_has_the_command() {
    let reference = include_str!("../../../docs/reference/audit-record.md");
    assert!(reference.contains(DOCUMENTED), "{DOCUMENTED}");
}

#[tokio::test]
async fn in_one_piece_over_both_protocols() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let mut shapes = Shapes::new(&stack).await;
    let large = large();
    for protocol in ["http1", "http2"] {
        // One connection for all, because each call must start from scratch.
        let mut connection = match protocol {
            "http1" => Connection::http1(stack.envoy.port()).await.unwrap(),
            _ => Connection::http2(stack.envoy.port()).await.unwrap(),
        };
        let long = format!("q={}", "0123456789".repeat(400));
        for (name, method, query, body) in [
            ("no-query", "GET", None, &b""[..]),
            ("empty-query", "GET", Some(""), b""),
            ("encoded", "GET", Some("a=%00%2F%0A&b=%C3%A9+x&%"), b""),
            ("question-marks", "GET", Some("?a=?&b=/?"), b""),
            ("long-query", "GET", Some(long.as_str()), b""),
            ("head", "HEAD", Some("a=1"), b""),
            ("get-with-body", "GET", Some("a=1"), b"{\"a\":1}"),
            ("empty-body", "POST", Some("a=1"), b""),
            ("small", "POST", Some("a=1"), b"{\"a\":1}"),
            ("small-without-query", "POST", None, b"a=1\n"),
            ("options-with-body", "OPTIONS", Some("a=1"), b"x"),
            ("put-with-both", "PUT", Some("id=7"), b"{\"a\":1}"),
            ("delete-with-body", "DELETE", None, b"x"),
            ("nul", "PUT", Some("a"), b"\0\0a\0\n\r\n\0"),
            ("line-feeds", "PATCH", Some("a"), b"\n\n"),
            ("mebibyte", "POST", Some("a=1"), &large),
        ] {
            let call = shapes.call(method, &format!("{protocol}-{name}"), query, body);
            assert_eq!(connection.call(call).await.unwrap().status, 200, "{protocol} {name}");
        }
    }
    shapes.check().await;
}

#[tokio::test]
async fn in_pieces_with_trailers_and_after_a_pause() {
    let stack = Stack::start(StackOptions::default()).await.unwrap();
    let mut shapes = Shapes::new(&stack).await;
    let large = large();
    let larger = large.repeat(10);
    for (name, sizes, body, trailers) in [
        ("chunks", &[1, 7, 13][..], &b"in chunks of odd sizes\0"[..], ""),
        ("large-chunks", &[1, 65_537, 3, 8_191], &large, ""),
        ("ten-mebibytes", &[7, 131_071, 1, 65_536], &larger, ""),
        ("no-chunk", &[1], b"", ""),
        ("chunks-and-trailers", &[5, 1], b"with trailers", "x-checked: yes\r\n"),
    ] {
        let target = shapes.target(name, Some("a=1"), body, false);
        let mut bytes = shapes.head("POST", &target).into_bytes();
        bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
        bytes.extend_from_slice(&chunked(body, sizes));
        bytes.extend_from_slice(format!("{trailers}\r\n").as_bytes());
        assert_eq!(shapes.raw(&bytes).await, 200, "{name}");
    }
    let mut http2 = Connection::http2(stack.envoy.port()).await.unwrap();
    let call =
        shapes.call("POST", "http2-trailers", Some("a=1"), b"with trailers").trailer("x-checked", "yes");
    assert_eq!(http2.call(call).await.unwrap().status, 200);
    let call = shapes.call("POST", "http2-only-trailers", None, b"").trailer("x-checked", "yes");
    assert_eq!(http2.call(call).await.unwrap().status, 200);

    let grpc = Call::grpc("", b"message");
    let target = shapes.target("grpc", None, &grpc.body, false);
    let grpc = Call { path: target, ..grpc }.header("x-api-key", &shapes.secret);
    assert_eq!(http2.call(grpc).await.unwrap().grpc_status(), Some(0));

    expects_to_be_asked(&mut shapes).await;
    comes_byte_by_byte(&mut shapes).await;
    shapes.check().await;
}

/// `Expect: 100-continue`: the body is sent when it is requested.
async fn expects_to_be_asked(shapes: &mut Shapes<'_>) {
    let target = shapes.target("expect", Some("a=1"), b"asked for", false);
    let head = shapes.head("POST", &target) + "expect: 100-continue\r\ncontent-length: 9\r\n\r\n";
    let mut stream = TcpStream::connect(("127.0.0.1", shapes.stack.envoy.port())).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).await.unwrap();
    assert_eq!(asked, *b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"asked for").await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(status, *b"HTTP/1.1 200");
}

/// A body sent byte by byte: each byte after the upstream has had time to receive the previous one.
async fn comes_byte_by_byte(shapes: &mut Shapes<'_>) {
    let body = b"slowly";
    let target = shapes.target("slow", Some("a=1"), body, false);
    let head = shapes.head("POST", &target) + &format!("content-length: {}\r\n\r\n", body.len());
    let mut connection = RawConnection::open(shapes.stack.envoy.port()).await.unwrap();
    connection.send(head.as_bytes()).await.unwrap();
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    for byte in body {
        pace.tick().await;
        connection.send(&[*byte]).await.unwrap();
    }
    assert_eq!(connection.receive().await.unwrap().status, 200);
}

#[tokio::test]
async fn what_did_not_pass_in_full_is_marked() {
    let stack = Stack::start(StackOptions::default()).await.unwrap();
    let mut shapes = Shapes::new(&stack).await;
    // Refused before its body, which the filter then never sees; and refused without one. The key has no such scope.
    for (name, method, body, partial) in [
        ("refused", "POST", "content-length: 7\r\n\r\nrefused", true),
        ("refused-without-body", "GET", "\r\n", false),
    ] {
        let target = shapes.target(&format!("/api/v1/scorecards/{name}"), Some("a=1"), b"", partial);
        let bytes = shapes.head(method, &target) + body;
        assert_eq!(shapes.raw(bytes.as_bytes()).await, 403, "{name}");
    }
    let target = shapes.target("reset", Some("a=1"), b"abc", true);
    let mut connection = RawConnection::open(stack.envoy.port()).await.unwrap();
    let bytes = shapes.head("POST", &target) + "content-length: 100\r\n\r\nabc";
    connection.send(bytes.as_bytes()).await.unwrap();
    drop(connection);

    let target = shapes.target("reset-chunks", Some("a=2"), b"abcde", true);
    let mut connection = RawConnection::open(stack.envoy.port()).await.unwrap();
    let bytes = shapes.head("POST", &target) + "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n";
    connection.send(bytes.as_bytes()).await.unwrap();
    drop(connection);
    shapes.check().await;
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_body() {
    let port = Port::reserve().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port.number())).await.unwrap();
    let number = port.number();
    let options = StackOptions::default().edit(move |config| {
        let clusters = config["static_resources"]["clusters"].as_array_mut().unwrap();
        let live = clusters.iter_mut().find(|cluster| cluster["name"] == "upstream_live").unwrap();
        let place = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/port_value";
        *live.pointer_mut(place).unwrap() = json!(number);
        Ok(())
    });
    let stack = Stack::start(options).await.unwrap();
    let mut shapes = Shapes::new(&stack).await;
    // An upstream that responds as soon as it has received the beginning of the body.
    let upstream = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"abc") {
            assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        // Any further data is not for it.
        let _ = stream.read_to_end(&mut seen).await;
    });
    let target = shapes.target("early", Some("a=1"), b"abc", true);
    let head = shapes.head("POST", &target) + "content-length: 100\r\n\r\nabc";
    assert_eq!(shapes.raw(head.as_bytes()).await, 200);
    shapes.check().await;
    upstream.abort();
}
