//! How connections are accepted and kept: one way for plain HTTP and for TLS, with limits for whoever is slow.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum_server::accept::{TcpConfigAcceptor, TcpKeepaliveConfig, TcpSocketConfig};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long a client may take for the head of a request, which for HTTP/1.1 includes the pause before it, and as long
/// for its part of a TLS handshake.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How many bytes the head of a request may have. Calls of this API have some hundreds.
const HEAD_BYTES: u32 = 64 * 1024;
/// How often a peer that says nothing is asked whether it is there, and how long it has to answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is told that connections cannot be accepted.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// Serves on this listener until `handle` says otherwise, by TLS if it is given.
pub(crate) fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<RustlsConfig>,
    handle: Handle<SocketAddr>,
) -> JoinHandle<io::Result<()>> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let keepalive = TcpKeepaliveConfig::new().time(PING_INTERVAL).interval(PING_TIMEOUT).retries(3);
    let tcp = TcpConfigAcceptor::new(TcpSocketConfig::new().nodelay(true).keepalive(keepalive));
    let server = limited(Server::from_listener(listener)).handle(handle);
    match tls {
        Some(config) => {
            let acceptor = RustlsAcceptor::new(config).handshake_timeout(HEAD_TIME).acceptor(tcp);
            tokio::spawn(server.acceptor(acceptor).serve(service))
        }
        None => tokio::spawn(server.acceptor(tcp).serve(service)),
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
        Some(peer) => tracing::debug!(%peer, %error, "a connection was not set up"),
        // Out of files, most likely. The server tries again twenty times a second, and goes on when it can.
        None if due(&last) => tracing::warn!(%error, "connections cannot be accepted; trying again"),
        None => {}
    })
}

/// Whether the last time was long ago.
fn due(last: &Mutex<Option<Instant>>) -> bool {
    let now = Instant::now();
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    let due = last.is_none_or(|last| now.duration_since(last) >= COMPLAINT_INTERVAL);
    if due {
        *last = Some(now);
    }
    due
}
