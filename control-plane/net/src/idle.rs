//! Ends connections on which nothing is asked for a while, those on which nobody has shown a token and an answer is not
//! taken, and those that are one too many.
//!
//! HTTP/1.1 has the first from the time limit for a request's head. Over HTTP/2 a client that answers pings would keep its
//! connection, and with it a file of this process, for ever, and needs no token for it. So would one that asks for a
//! public page and does not read it.

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

use crate::admission::{Admission, Connection, ConnectionGuard};

/// Accepts connections as `inner` does, and ends those that are idle for too long, or too many.
#[derive(Clone, Debug)]
pub struct IdleAcceptor<A> {
    inner: A,
    admission: Arc<Admission>,
    times: IdleTimes,
}

/// How long a connection may stay without anything happening.
#[derive(Clone, Copy, Debug)]
pub struct IdleTimes {
    /// Without a call.
    pub idle: Duration,
    /// With calls, while no valid token was shown: what everybody may call answers at once.
    pub unknown: Duration,
}

/// The calls of one connection.
#[derive(Debug)]
struct Activity {
    calls: AtomicUsize,
    times: Mutex<ActivityTimes>,
}

#[derive(Debug)]
struct ActivityTimes {
    /// When the first of the calls that are open began.
    began: Instant,
    /// When a call ended, or the connection was made.
    ended: Instant,
}

/// A call that is not answered to its end.
#[derive(Debug)]
struct OpenCall(Arc<Activity>);

/// A connection that reads as closed once it is idle for too long.
#[derive(Debug)]
pub struct IdleStream<I> {
    inner: I,
    guard: ConnectionGuard,
    activity: Arc<Activity>,
    times: IdleTimes,
    timer: Pin<Box<Sleep>>,
    /// Whether the other side did not take the last that was written.
    is_stalled: bool,
}

/// A service that counts its calls, their bodies included.
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
    /// Ends connections by these times, and as many as are too many.
    pub fn new(inner: A, admission: Arc<Admission>, times: IdleTimes) -> Self {
        Self { inner, admission, times }
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
        let guard = self.admission.admit();
        let (accepted, times) = (self.inner.accept(stream, service), self.times);
        Box::pin(async move {
            let (inner, service) = accepted.await?;
            let activity = Arc::new(Activity::new(Instant::now()));
            let connection = guard.connection().clone();
            let counted = CountedService { inner: service, activity: Arc::clone(&activity), connection };
            let timer = Box::pin(sleep(times.idle));
            // The deadline of the connection, set anew with each call; nothing is polled for.
            Ok((IdleStream { inner, guard, activity, times, timer, is_stalled: false }, counted))
        })
    }
}

// === impl Activity ===

impl Activity {
    fn new(now: Instant) -> Self {
        Self { calls: AtomicUsize::new(0), times: Mutex::new(ActivityTimes { began: now, ended: now }) }
    }

    /// When the connection ends if nothing happens until then; `None` if it stays.
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
    /// Ready once the connection has had its time. To be asked whenever it waits for the other side.
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

    /// What was written, or that the connection ends.
    fn written<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            // An answer that is taken slowly is taken. Who has shown no token has the time of a call for it.
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
        // First: a client that sends all the time ends too.
        if self.guard.ends_reader(context) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if let Poll::Ready(read) = Pin::new(&mut self.inner).poll_read(context, buffer) {
            return Poll::Ready(read);
        }
        // Nothing more is read: the end of the connection, as if the client had closed it.
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
