//! Forms whose body never ends, sent to a listening server by people who are not signed in.

use std::time::Duration;

use omf::server::Server;
use omf::settings::ServerSettings;
use omniflow_domain::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Connections with an unfinished form: more than the permits for large forms.
const UNFINISHED: usize = 20;
/// If no status arrives within this time, the request is waiting for the unfinished ones.
const DEADLINE: Duration = Duration::from_secs(10);

/// Sends a form of a page with this framing; the connection stays open.
async fn post(server: &Server, path: &str, framing: &str, body: &str) -> TcpStream {
    let mut connection = TcpStream::connect(server.address()).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: keys.example\r\nsec-fetch-site: same-origin\r\n\
         content-type: application/x-www-form-urlencoded\r\n{framing}\r\n\r\n{body}"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection
}

/// The status of the response on a connection.
async fn status(mut connection: TcpStream) -> String {
    let mut head = [0; "HTTP/1.1 000".len()];
    tokio::time::timeout(DEADLINE, connection.read_exact(&mut head)).await.unwrap().unwrap();
    String::from_utf8_lossy(&head).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_forms_do_not_prevent_signing_in() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(ServerSettings::in_folder(folder.path(), Clock::system())).await.unwrap();
    let token = tokio::fs::read_to_string(folder.path().join("admin-token")).await.unwrap();
    let form = format!("token={}", token.trim());
    let length = format!("content-length: {}", form.len());
    for (path, framing, body) in [
        ("/sign-in", "content-length: 100", "token="),
        ("/sign-in", "transfer-encoding: chunked", "6\r\ntoken=\r\n"),
        ("/sign-in", "content-length: 1000000", "token="),
        ("/keys/new", "content-length: 100", "name="),
        ("/keys/new", "content-length: 1000000", "name="),
    ] {
        let mut open = Vec::new();
        for _ in 0..UNFINISHED {
            open.push(post(&server, path, framing, body).await);
        }
        let answer = status(post(&server, "/sign-in", &length, &form).await).await;
        assert_eq!(answer, "HTTP/1.1 303", "{path} {framing}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_forms_without_a_session_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(ServerSettings::in_folder(folder.path(), Clock::system())).await.unwrap();
    let mut open = Vec::new();
    for _ in 0..UNFINISHED {
        open.push(post(&server, "/keys/new", "content-length: 1000000", "name=").await);
    }
    let mut refused = 0;
    for mut connection in open {
        let mut head = [0; 12];
        let read = tokio::time::timeout(Duration::from_secs(2), connection.read_exact(&mut head)).await;
        refused += usize::from(read.is_ok_and(|read| read.is_ok() && head.ends_with(b"503")));
    }
    assert!((1..UNFINISHED).contains(&refused), "{refused} of {UNFINISHED}");
    // One byte more than the maximum of a form without a permit.
    let body = format!("10001\r\n{}", "a".repeat(0x1_0001));
    let long = post(&server, "/sign-in", "transfer-encoding: chunked", &body).await;
    assert_eq!(status(long).await, "HTTP/1.1 413", "a form without a length is a small one");
}
