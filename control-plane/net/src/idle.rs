//! Closes connections that are idle, that have no valid token and do not read a response, or that exceed the limit.
//!
//! Over HTTP/1.1, the time limit for the headers of a request closes idle connections. Over HTTP/2, a client without a token
//! that answers pings could keep its connection, and a file descriptor of this process, forever. So could a client that
//! requests a public page and does not read it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Request;
use axum::response::Response;
use axum_server::accept::Accept;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};
use tower::Service;

use crate::connection_table::{Connection, ConnectionGuard, ConnectionTable};

/// Accepts connections with `inner`, and closes idle and excess ones.
#[derive(Clone, Debug)]
pub struct IdleAcceptor<A> {
    inner: A,
    connection_table: Arc<ConnectionTable>,
    times: IdleTimes,
}

/// How long a connection may be inactive.
#[derive(Clone, Copy, Debug)]
pub struct IdleTimes {
    /// Without an open request.
    pub idle: Duration,
    /// With an open request, but without a valid token. Public endpoints respond immediately.
    pub unknown: Duration,
}

/// The requests on a connection.
#[derive(Debug)]
struct Activity {
    calls: AtomicUsize,
    times: Mutex<ActivityTimes>,
}

#[derive(Debug)]
struct ActivityTimes {
    /// When the first open request began.
    began: Instant,
    /// When the last request ended, or the connection was opened.
    ended: Instant,
}

/// A request whose response is not complete.
#[derive(Debug)]
struct OpenCall(Arc<Activity>);

/// A connection that reads as closed after it has been idle for too long.
#[derive(Debug)]
pub struct IdleStream<I> {
    inner: I,
    guard: ConnectionGuard,
    activity: Arc<Activity>,
    times: IdleTimes,
    timer: Pin<Box<Sleep>>,
    /// Whether the peer did not accept the last write.
    is_stalled: bool,
}

/// A service that counts open requests, including their response bodies.
#[derive(Clone, Debug)]
pub struct CountedService<S> {
    inner: S,
    activity: Arc<Activity>,
    connection: Connection,
}

struct CountedBody {
    inner: Body,
    _call: OpenCall,
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

// === impl IdleAcceptor ===

impl<A> IdleAcceptor<A> {
    /// Wraps an acceptor, with these time limits and this limit of connections.
    pub fn new(inner: A, connection_table: Arc<ConnectionTable>, times: IdleTimes) -> Self {
        Self { inner, connection_table, times }
    }
}

impl<A, I, S> Accept<I, S> for IdleAcceptor<A>
where
    A: Accept<I, S>,
    A::Future: Send + 'static,
    A::Stream: 'static,
    A::Service: 'static,
{
    type Stream = IdleStream<A::Stream>;
    type Service = CountedService<A::Service>;
    type Future = BoxFuture<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let guard = self.connection_table.admit();
        let (accepted, times) = (self.inner.accept(stream, service), self.times);
        Box::pin(async move {
            let (inner, service) = accepted.await?;
            let activity = Arc::new(Activity::new(Instant::now()));
            let connection = guard.connection().clone();
            let counted = CountedService { inner: service, activity: Arc::clone(&activity), connection };
            let timer = Box::pin(sleep(times.idle));
            // The deadline of the connection, which each request resets.
            Ok((IdleStream { inner, guard, activity, times, timer, is_stalled: false }, counted))
        })
    }
}

// === impl Activity ===

impl Activity {
    fn new(now: Instant) -> Self {
        Self { calls: AtomicUsize::new(0), times: Mutex::new(ActivityTimes { began: now, ended: now }) }
    }

    /// When the connection is closed if nothing happens before; `None` if it stays open.
    fn ends_at(&self, times: IdleTimes, trusted: bool) -> Option<Instant> {
        let known = self.times();
        if self.calls.load(Ordering::Acquire) == 0 {
            return Some(known.ended + times.idle);
        }
        (!trusted).then(|| known.began + times.unknown)
    }

    fn times(&self) -> MutexGuard<'_, ActivityTimes> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl OpenCall ===

impl OpenCall {
    fn begin(activity: &Arc<Activity>) -> Self {
        let mut times = activity.times();
        if activity.calls.fetch_add(1, Ordering::AcqRel) == 0 {
            times.began = Instant::now();
        }
        drop(times);
        Self(Arc::clone(activity))
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let mut times = self.0.times();
        times.ended = Instant::now();
        self.0.calls.fetch_sub(1, Ordering::AcqRel);
    }
}

// === impl IdleStream ===

impl<I> IdleStream<I> {
    /// Ready when the connection has timed out. Must be polled whenever the connection waits for the peer.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(context));
            let now = Instant::now();
            let next = match self.activity.ends_at(self.times, self.guard.connection().is_trusted()) {
                Some(end) if end <= now => return Poll::Ready(()),
                Some(end) => end,
                None => now + self.times.idle,
            };
            self.timer.as_mut().reset(next);
        }
    }

    /// Returns the result of a write, or closes the connection.
    fn written<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            // A slow reader still reads. Without a valid token, the time limit of a request applies.
            if std::mem::take(&mut self.is_stalled) && self.guard.connection().is_trusted() {
                self.activity.times().ended = Instant::now();
            }
            return written;
        }
        self.is_stalled = true;
        if self.guard.ends_writer(context) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        ready!(self.poll_end(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for IdleStream<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Checked first, so that a client that sends continuously is closed too.
        if self.guard.ends_reader(context) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if let Poll::Ready(read) = Pin::new(&mut self.inner).poll_read(context, buffer) {
            return Poll::Ready(read);
        }
        // Reads as end of file, as if the client had closed the connection.
        self.poll_end(context).map(Ok)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for IdleStream<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        self.written(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut_down = Pin::new(&mut self.inner).poll_shutdown(context);
        self.written(context, shut_down)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, buffers);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

// === impl CountedService ===

impl<S, B> Service<Request<B>> for CountedService<S>
where
    S: Service<Request<B>, Response = Response>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<Result<Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(self.connection.clone());
        let call = OpenCall::begin(&self.activity);
        let answer = self.inner.call(request);
        Box::pin(async move { Ok(answer.await?.map(|inner| Body::new(CountedBody { inner, _call: call }))) })
    }
}

// === impl CountedBody ===

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
