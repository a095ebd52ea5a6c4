//! Accepts connections for plain HTTP and TLS, with limits for slow clients.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum_server::accept::{TcpConfigAcceptor, TcpKeepaliveConfig, TcpSocketConfig};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::connection_table::ConnectionTable;
use crate::idle::{IdleAcceptor, IdleTimes};

/// Time limit for the headers of a request, which for HTTP/1.1 includes the idle time before it, and for a TLS
/// handshake.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Maximum length of the headers of a request in bytes. Requests to this API have a few hundred.
const HEAD_BYTES: u32 = 16 * 1024;
/// Interval of pings on a silent HTTP/2 connection, and how long the peer may take to respond.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be open without a request.
const IDLE_TIME: Duration = Duration::from_secs(60);
/// How long a connection may be open with a request, but without a valid token. The largest public file has 1.5 MB.
const UNKNOWN_TIME: Duration = Duration::from_secs(120);
/// Maximum number of connections, if the operating system permits as many files. A gateway has a few. A connection that has
/// received only part of the headers takes at most `HEAD_BYTES` and a few kilobytes.
const MOST_CONNECTIONS: usize = 8_192;
/// Files that are not connections: databases with their logs, certificates, the connection of the webhook.
const OTHER_FILES: u64 = 128;
/// Maximum number of connections that wait to be accepted. The operating system may permit fewer.
const BACKLOG: u32 = 4_096;
/// Minimum interval between warnings that connections cannot be accepted.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// Serves on a listener until `handle` shuts it down, over TLS if given.
pub fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<RustlsConfig>,
    connection_table: Arc<ConnectionTable>,
    handle: Handle<SocketAddr>,
) -> JoinHandle<io::Result<()>> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let keepalive = TcpKeepaliveConfig::new().time(PING_INTERVAL).interval(PING_TIMEOUT).retries(3);
    let tcp = TcpConfigAcceptor::new(TcpSocketConfig::new().nodelay(true).keepalive(keepalive));
    let idle = IdleAcceptor::new(tcp, connection_table, IdleTimes { idle: IDLE_TIME, unknown: UNKNOWN_TIME });
    let server = limited(Server::from_listener(listener)).handle(handle);
    match tls {
        Some(config) => {
            // Outside the TLS acceptor, so that a stalled handshake counts as a connection too.
            let acceptor = RustlsAcceptor::new(config).handshake_timeout(HEAD_TIME).acceptor(idle);
            tokio::spawn(server.acceptor(acceptor).serve(service))
        }
        None => tokio::spawn(server.acceptor(idle).serve(service)),
    }
}

/// Listens on an address.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As in `TcpListener::bind`: a restart does not have to wait for connections of the previous process.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Maximum number of connections of this process, given the limit of open files.
pub fn most_connections() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).saturating_sub(OTHER_FILES);
    usize::try_from(files).unwrap_or(usize::MAX).min(MOST_CONNECTIONS)
}

/// Raises the limit of open files as far as the operating system permits. Each connection uses one, and the default is often
/// 1,024.
pub fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, files = limit.current, "raising the limit on open files failed");
    }
}

fn limited(mut server: Server<SocketAddr>) -> Server<SocketAddr> {
    let builder = server.http_builder();
    builder.http1().header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BYTES as usize);
    builder
        .http2()
        .max_header_list_size(HEAD_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let last = Mutex::new(None);
    server.first_request_timeout(HEAD_TIME).accept_error_handler(move |peer, error| match peer {
        Some(peer) => tracing::debug!(%peer, %error, "connection setup failed"),
        // Most likely, the limit of open files is reached. The server retries 20 times a second.
        None if due(&last) => tracing::warn!(%error, "accepting a connection failed, will retry"),
        None => {}
    })
}

/// Whether the interval since the last warning has passed.
fn due(last: &Mutex<Option<Instant>>) -> bool {
    let now = Instant::now();
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    let due = last.is_none_or(|last| now.duration_since(last) >= WARNING_INTERVAL);
    if due {
        *last = Some(now);
    }
    due
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::Notify;

    use super::*;
    use crate::connection_table::Connection;

    async fn start() -> (SocketAddr, Handle<SocketAddr>, JoinHandle<io::Result<()>>) {
        start_with(Router::new().route("/", get("here"))).await
    }

    async fn start_with(router: Router) -> (SocketAddr, Handle<SocketAddr>, JoinHandle<io::Result<()>>) {
        start_small(router, 100).await
    }

    async fn start_small(
        router: Router,
        most: usize,
    ) -> (SocketAddr, Handle<SocketAddr>, JoinHandle<io::Result<()>>) {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let handle = Handle::new();
        let serving = serve(listener, router, None, Arc::new(ConnectionTable::new(most)), handle.clone());
        (address, handle, serving)
    }

    /// Calls of `/never` are reported when they begin, and never receive a response.
    fn never(called: &Arc<Notify>) -> Router {
        let called = Arc::clone(called);
        let begin = async move || {
            called.notify_one();
            pending::<()>().await;
        };
        Router::new().route("/never", get(begin))
    }

    async fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// Waits until this many are open.
    async fn connections(handle: &Handle<SocketAddr>, count: usize) {
        let reached = async {
            while handle.connection_count() != count {
                tokio::task::yield_now().await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(30), reached).await;
        assert!(in_time.is_ok(), "{} connections, not {count}", handle.connection_count());
    }

    // The clock does not advance while there is work, and jumps to the next timer when there is none.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_dawdles_is_cut_off() {
        let (address, _, _serving) = start().await;
        let whole = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        for sent in
            ["", "GET / HT", "GET / HTTP/1.1\r\nhost: x\r\nslow: ", &format!("{whole}GET / "), "PRI * HTTP/2"]
        {
            let mut stream = send(address, sent.as_bytes()).await;
            let start = Instant::now();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            let elapsed = start.elapsed();
            assert!((HEAD_TIME..HEAD_TIME * 2).contains(&elapsed), "{sent:?}: {elapsed:?}");
            assert_eq!(String::from_utf8_lossy(&answer).contains("200 OK"), sent.starts_with(whole));
        }
    }

    /// A minimal HTTP/2 client that answers pings to keep its connection open. Returns the time until the server closes
    /// the connection; calls `/` first if requested.
    async fn answer_pings(address: SocketAddr, call: bool) -> Duration {
        const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
        // GET / with the authority x, in HPACK's static table (RFC 7541, appendix A).
        const CALL: &[u8] = &[0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x41, 0x01, b'x'];
        let mut stream = send(address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        stream.write_all(SETTINGS).await.unwrap();
        if call {
            stream.write_all(CALL).await.unwrap();
        }
        let start = Instant::now();
        let mut head = [0; 9];
        while stream.read_exact(&mut head).await.is_ok() {
            let length = usize::from(head[1]) * 256 + usize::from(head[2]);
            let mut payload = vec![0; length];
            stream.read_exact(&mut payload).await.unwrap();
            const PING: u8 = 6;
            if (head[3], head[4]) == (PING, 0) {
                let answer = [&[0, 0, 8, PING, 1, 0, 0, 0, 0][..], &payload].concat();
                stream.write_all(&answer).await.unwrap();
            }
        }
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_call_ends_though_pings_are_answered() {
        let (address, _, _serving) = start().await;
        let idle = answer_pings(address, false).await;
        assert!((HEAD_TIME..HEAD_TIME * 2).contains(&idle), "{idle:?}");
        let called = answer_pings(address, true).await;
        assert!((IDLE_TIME..IDLE_TIME * 2).contains(&called), "{called:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_an_open_call_stays() {
        const LONG: Duration = Duration::from_secs(600);
        // A call that takes long by the clock of this test. The clock jumps, so nothing actually waits.
        let slow = async |request: axum::extract::Request| {
            Connection::trust(request.extensions());
            tokio::time::sleep(LONG).await;
            "here"
        };
        let (address, _, _serving) = start_with(Router::new().route("/", get(slow))).await;
        let elapsed = answer_pings(address, true).await;
        assert!((LONG..LONG + IDLE_TIME * 2).contains(&elapsed), "{elapsed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_token_an_open_call_keeps_no_connection() {
        let never = async || pending::<()>().await;
        let (address, _, _serving) = start_with(Router::new().route("/", get(never))).await;
        let elapsed = answer_pings(address, true).await;
        assert!((UNKNOWN_TIME..UNKNOWN_TIME * 2).contains(&elapsed), "{elapsed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_ends_without_a_token() {
        const LONG: usize = 64 * 1024 * 1024;
        let long = async || vec![b'x'; LONG];
        let (address, handle, _serving) = start_with(Router::new().route("/", get(long))).await;
        let mut stream = send(address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\n").await;
        let start = Instant::now();
        connections(&handle, 1).await;
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        while handle.connection_count() > 0 {
            assert!(start.elapsed() < UNKNOWN_TIME);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        // The whole response was sent, so that no call is open.
        assert!(start.elapsed() >= IDLE_TIME, "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn one_too_many_ends_the_oldest_in_whatever_it_does() {
        let called = Arc::new(Notify::new());
        let router = never(&called).route("/", get("here"));
        let (address, handle, _serving) = start_small(router, 4).await;
        let mut clients = Vec::new();
        for (number, sent) in
            ["", "GET / HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET /never HTTP/1.1\r\n\r\n"]
                .into_iter()
                .enumerate()
        {
            clients.push(send(address, sent.as_bytes()).await);
            connections(&handle, number + 1).await;
        }
        called.notified().await;
        let mut newer = Vec::new();
        for mut oldest in clients {
            let mut stream = send(address, b"GET / HTTP/1.1\r\n\r\n").await;
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
            newer.push(stream);
            // The HTTP/2 preface comes first. It is skipped, not awaited: waiting would take longer than this test may.
            let mut rest = Vec::new();
            let ended = tokio::time::timeout(HEAD_TIME / 2, oldest.read_to_end(&mut rest)).await;
            assert!(ended.is_ok(), "the oldest is still open");
        }
    }

    #[tokio::test]
    async fn a_head_has_its_limit_and_a_server_goes_on() {
        let (address, _, _serving) = start().await;
        for (bytes, status) in [(10_000, "200"), (HEAD_BYTES as usize, "431")] {
            let head = format!("GET / HTTP/1.1\r\nconnection: close\r\nx: {}\r\n\r\n", "x".repeat(bytes));
            let mut stream = send(address, head.as_bytes()).await;
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {status}"));
        }
    }

    #[tokio::test]
    async fn an_open_call_is_waited_for_and_an_idle_connection_is_not() {
        let called = Arc::new(Notify::new());
        let (address, handle, serving) = start_with(never(&called)).await;
        let mut open = send(address, b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await;
        called.notified().await;
        let _idle = send(address, b"").await;
        connections(&handle, 2).await;
        handle.graceful_shutdown(None);
        connections(&handle, 1).await;
        assert!(!serving.is_finished(), "the call is still waited for");
        handle.shutdown();
        serving.await.unwrap().unwrap();
        assert_eq!(open.read(&mut [0; 9]).await.unwrap_or(0), 0);
    }
}
