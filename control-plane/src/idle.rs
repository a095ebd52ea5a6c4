//! Ends connections on which nothing is asked for a while.
//!
//! HTTP/1.1 has that from the time limit for a request's head. Over HTTP/2 a client that answers pings would keep its
//! connection, and with it a file of this process, for ever, and needs no token for it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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

/// Accepts connections as `inner` does, and ends those that are idle for too long.
#[derive(Clone, Debug)]
pub(crate) struct IdleAcceptor<A> {
    inner: A,
    after: Duration,
}

/// The calls of one connection.
#[derive(Debug)]
struct Activity {
    calls: AtomicUsize,
    last: Mutex<Instant>,
}

/// A call that is not answered to its end.
#[derive(Debug)]
struct OpenCall(Arc<Activity>);

/// A connection that reads as closed once it is idle for too long.
#[derive(Debug)]
pub(crate) struct IdleStream<I> {
    inner: I,
    activity: Arc<Activity>,
    after: Duration,
    timer: Pin<Box<Sleep>>,
}

/// A service that counts its calls, their bodies included.
#[derive(Clone, Debug)]
pub(crate) struct CountedService<S> {
    inner: S,
    activity: Arc<Activity>,
}

struct CountedBody {
    inner: Body,
    _call: OpenCall,
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

// === impl IdleAcceptor ===

impl<A> IdleAcceptor<A> {
    /// Ends connections that had no call open for `after`.
    pub(crate) fn new(inner: A, after: Duration) -> Self {
        Self { inner, after }
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
        let (accepted, after) = (self.inner.accept(stream, service), self.after);
        Box::pin(async move {
            let (inner, service) = accepted.await?;
            let activity =
                Arc::new(Activity { calls: AtomicUsize::new(0), last: Mutex::new(Instant::now()) });
            let counted = CountedService { inner: service, activity: Arc::clone(&activity) };
            // The deadline of the connection, set anew with each call; nothing is polled for.
            Ok((IdleStream { inner, activity, after, timer: Box::pin(sleep(after)) }, counted))
        })
    }
}

// === impl Activity ===

impl Activity {
    /// When the connection will have been idle for `after` if no call comes; `None` while one is open.
    fn idle_at(&self, after: Duration) -> Option<Instant> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        (self.calls.load(Ordering::Acquire) == 0).then(|| last + after)
    }
}

// === impl OpenCall ===

impl OpenCall {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.calls.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(activity))
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.calls.fetch_sub(1, Ordering::AcqRel);
    }
}

// === impl IdleStream ===

impl<I: AsyncRead + Unpin> AsyncRead for IdleStream<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.inner).poll_read(context, buffer) {
            return Poll::Ready(read);
        }
        loop {
            ready!(self.timer.as_mut().poll(context));
            let now = Instant::now();
            let next = match self.activity.idle_at(self.after) {
                // Nothing more is read: the end of the connection, as if the client had closed it.
                Some(idle_at) if idle_at <= now => return Poll::Ready(Ok(())),
                Some(idle_at) => idle_at,
                None => now + self.after,
            };
            self.timer.as_mut().reset(next);
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for IdleStream<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, buffers)
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

    fn call(&mut self, request: Request<B>) -> Self::Future {
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
