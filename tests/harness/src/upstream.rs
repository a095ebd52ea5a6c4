//! An upstream that responds with the request that it received, over HTTP/1.1 and HTTP/2 without TLS on one port.
//!
//! A request can control its response: `x-echo-status: 503` (or a path that ends in `/status/503`) sets the status,
//! `x-echo-delay-ms: 200` delays it, `x-echo-abort: 1` breaks the connection instead. gRPC requests get one
//! message and `grpc-status: 0` in the trailers; `x-echo-grpc-status: 14` sets the status, and `x-echo-trailers-only: 1` puts
//! it into the headers of a response without a message. `x-echo-headers: a=b; c=d` adds headers to the response, and
//! `x-echo-break: 1` breaks the connection in the middle of the body, `x-echo-stall: 1` stops there. A request for an upgrade
//! gets one: what arrives on the connection is sent back.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{self, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use crate::client::local;

/// The demo may run for days, so only the latest requests are kept.
const KEPT: usize = 10_000;

/// One received request.
#[derive(Debug, Clone)]
pub struct Received {
    /// The method.
    pub method: String,
    /// Path and query, exactly as received.
    pub path: String,
    /// Header names in lower case with their values, in order. Bytes outside ASCII are decoded as Latin-1.
    pub headers: Vec<(String, String)>,
    /// Trailers, in the same form.
    pub trailers: Vec<(String, String)>,
    /// Length of the body in bytes.
    pub body_bytes: usize,
    /// The body's SHA-256 in hexadecimal.
    pub body_sha256: String,
}

/// A running echo server. Dropping it closes its port and its connections.
#[derive(Debug)]
pub struct Upstream {
    port: u16,
    log: Log,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<VecDeque<Received>>>);

type Body = UnsyncBoxBody<Bytes, anyhow::Error>;

/// A body that begins but does not end.
struct Unfinished {
    sent: bool,
    /// When the connection breaks. `None` for a body that stalls.
    breaks: Option<Pin<Box<tokio::time::Sleep>>>,
}

// === impl Upstream ===

impl Upstream {
    /// Starts an echo server with this `name` on this port, on a thread with its own runtime, so that it responds even
    /// if the test's runtime is busy.
    pub fn start(name: &str, port: u16) -> Result<Self> {
        let listener = TcpListener::bind(local(port)).with_context(|| format!("port {port} is busy"))?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let log = Log::default();
        let (stop, stopped) = oneshot::channel();
        let serving = serve(listener, Arc::from(name), log.clone());
        let thread = std::thread::Builder::new().name(format!("upstream-{name}")).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    result = serving => if let Err(error) = result { eprintln!("upstream: {error}") },
                }
            });
        })?;
        Ok(Self { port, log, stop: Some(stop), thread: Some(thread) })
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The requests so far, oldest first.
    pub fn received(&self) -> Vec<Received> {
        self.log.lock().iter().cloned().collect()
    }

    /// The requests since the last call of this, oldest first.
    pub fn take(&self) -> Vec<Received> {
        self.log.lock().drain(..).collect()
    }

    /// Discards the requests so far.
    pub fn clear(&self) {
        self.log.lock().clear();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

// === impl Received ===

impl Received {
    /// The only value of a header. `None` if it is missing or repeated.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let (_, value) = values.next()?;
        values.next().is_none().then_some(value.as_str())
    }

    fn to_json(&self, upstream: &str) -> Value {
        json!({
            "upstream": upstream,
            "method": self.method,
            "path": self.path,
            "headers": self.headers,
            "trailers": self.trailers,
            "body_bytes": self.body_bytes,
            "body_sha256": self.body_sha256,
        })
    }
}

// === impl Log ===

impl Log {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Received>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, received: Received) {
        let mut kept = self.lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(received);
    }
}

async fn serve(listener: TcpListener, name: Arc<str>, log: Log) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (name, log) = (Arc::clone(&name), log.clone());
        let service = service_fn(move |request| answer(request, Arc::clone(&name), log.clone()));
        tokio::spawn(async move {
            // A broken connection was caused by the client, or requested by the test.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// Accepts an upgrade, such as that of a WebSocket, and echoes the bytes of the connection.
fn upgrade(request: Request<Incoming>, protocol: &HeaderValue) -> Result<Response<Body>> {
    tokio::spawn(async move {
        let Ok(connection) = hyper::upgrade::on(request).await else { return };
        let (mut incoming, mut outgoing) = tokio::io::split(TokioIo::new(connection));
        let _ = tokio::io::copy(&mut incoming, &mut outgoing).await;
    });
    let response =
        Response::builder().status(101).header("connection", "upgrade").header("upgrade", protocol);
    Ok(response.body(Full::new(Bytes::new()).map_err(Into::into).boxed_unsync())?)
}

async fn answer(request: Request<Incoming>, name: Arc<str>, log: Log) -> Result<Response<Body>> {
    if let Some(protocol) = request.headers().get("upgrade").cloned() {
        return upgrade(request, &protocol);
    }
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or_else(|| head.uri.to_string(), ToString::to_string);
    let body = body.collect().await?;
    let trailers = body.trailers().map(pairs).unwrap_or_default();
    let body = body.to_bytes();
    let received = Received {
        method: head.method.to_string(),
        path,
        headers: pairs(&head.headers),
        trailers,
        body_bytes: body.len(),
        body_sha256: hex::encode(Sha256::digest(&body)),
    };
    let steer = |name: &str| received.header(name).and_then(|value| value.parse::<u64>().ok());
    let delay = steer("x-echo-delay-ms");
    let abort = steer("x-echo-abort").is_some();
    let status = steer("x-echo-status").or_else(|| status_in_path(head.uri.path())).unwrap_or(200);
    let grpc_status = steer("x-echo-grpc-status").unwrap_or(0);
    let trailers_only = steer("x-echo-trailers-only").is_some();
    let stalls = steer("x-echo-stall").is_some();
    let ends_early = stalls || steer("x-echo-break").is_some();
    let added: Vec<String> =
        received.header("x-echo-headers").unwrap_or_default().split(';').map(str::to_owned).collect();
    let grpc = received.header("content-type").is_some_and(|kind| kind.starts_with("application/grpc"));
    let echo = received.to_json(&name).to_string();
    log.push(received);

    if let Some(delay) = delay {
        // The client has asked for a slow upstream.
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    if abort {
        return Err(anyhow!("the request asked for a broken connection"));
    }
    let mut response = Response::builder().status(u16::try_from(status)?);
    for (name, value) in added.iter().filter_map(|pair| pair.split_once('=')) {
        response = response.header(name.trim(), value.trim());
    }
    if ends_early {
        // Announces more bytes than it sends: then the connection breaks, or nothing follows.
        // The data must be sent before the connection breaks.
        let breaks = (!stalls).then(|| Box::pin(tokio::time::sleep(Duration::from_millis(200))));
        let body = Unfinished { sent: false, breaks };
        return Ok(response.header("content-length", "1000").body(body.boxed_unsync())?);
    }
    if grpc && trailers_only {
        let response = response.header("content-type", "application/grpc").header("grpc-status", grpc_status);
        return Ok(response.body(Full::new(Bytes::new()).map_err(Into::into).boxed_unsync())?);
    }
    if grpc {
        let framed = crate::Call::grpc("", echo.as_bytes()).body;
        let trailers = HeaderMap::from_iter([("grpc-status".parse()?, HeaderValue::from(grpc_status))]);
        let body = Full::new(Bytes::from(framed)).with_trailers(std::future::ready(Some(Ok(trailers))));
        let body = body.map_err(Into::into).boxed_unsync();
        return Ok(response.header("content-type", "application/grpc").body(body)?);
    }
    // Over HTTP/2, a body in the response to HEAD is an error.
    let echo = if head.method == hyper::Method::HEAD { Bytes::new() } else { Bytes::from(echo) };
    let body = Full::new(echo).map_err(Into::into).boxed_unsync();
    Ok(response.header("content-type", "application/json").body(body)?)
}

impl hyper::body::Body for Unfinished {
    type Data = Bytes;
    type Error = anyhow::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        if !std::mem::replace(&mut self.sent, true) {
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"the beginning")))));
        }
        match &mut self.breaks {
            None => Poll::Pending,
            Some(breaks) => breaks
                .as_mut()
                .poll(context)
                .map(|()| Some(Err(anyhow!("the request asked for a broken connection")))),
        }
    }
}

fn status_in_path(path: &str) -> Option<u64> {
    path.rsplit_once("/status/")?.1.parse().ok()
}

fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| (name.to_string(), latin1(value))).collect()
}

fn latin1(value: &HeaderValue) -> String {
    value.as_bytes().iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{self, Call, Connection};
    use crate::ports::Port;

    #[tokio::test]
    async fn echoes_over_http1_with_the_exact_path() {
        let port = Port::reserve().unwrap();
        let upstream = Upstream::start("live", port.number()).unwrap();
        let call = Call::new("POST", "/a/%2F/../b?q=%20").header("x-echo-status", "503").body("hello");
        let response = client::call(upstream.port(), call).await.unwrap();
        assert_eq!(response.status, 503);
        let echo = response.json().unwrap();
        assert_eq!(echo["upstream"], "live");
        assert_eq!(echo["path"], "/a/%2F/../b?q=%20");
        assert_eq!(echo["body_bytes"], 5);
        assert_eq!(echo["body_sha256"], "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
        assert_eq!(upstream.received().len(), 1);
    }

    #[tokio::test]
    async fn answers_grpc_over_http2_with_trailers() {
        let port = Port::reserve().unwrap();
        let upstream = Upstream::start("test", port.number()).unwrap();
        let mut connection = Connection::http2(upstream.port()).await.unwrap();
        let response = connection.call(Call::grpc("/package.Service/Method", b"message")).await.unwrap();
        assert_eq!(response.status, 200);
        assert_eq!(response.grpc_status(), Some(0));
        assert_eq!(upstream.received()[0].body_bytes, 12);
    }

    #[tokio::test]
    async fn raw_bytes_arrive_as_they_were_sent() {
        let port = Port::reserve().unwrap();
        let upstream = Upstream::start("live", port.number()).unwrap();
        let response =
            client::exchange(upstream.port(), b"GET /status/418 HTTP/1.1\r\nHost: a\r\nX-Odd: \xff\r\n\r\n")
                .await
                .unwrap();
        assert_eq!(response.status, 418);
        assert_eq!(upstream.received()[0].header("x-odd"), Some("ÿ"));
    }

    #[tokio::test]
    async fn a_dropped_upstream_frees_its_port() {
        let port = Port::reserve().unwrap();
        drop(Upstream::start("live", port.number()).unwrap());
        assert!(Upstream::start("live", port.number()).is_ok());
    }
}
