//! One persistent HTTP connection: on an Envoy with several workers, all its requests reach the same worker.

use std::convert::Infallible;
use std::future::{Ready, ready};

use anyhow::{Context as _, Result};
use http_body_util::combinators::WithTrailers;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::{Call, Response, local};

type Body = Either<Full<Bytes>, WithTrailers<Full<Bytes>, Trailers>>;
type Trailers = Ready<Option<Result<HeaderMap, Infallible>>>;

/// A connection to 127.0.0.1. Dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    port: u16,
    sender: Sender,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Connection {
    /// Opens an HTTP/1.1 connection.
    pub async fn http1(port: u16) -> Result<Self> {
        let stream = connect(port).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { port, sender: Sender::Http1(sender) })
    }

    /// Opens an HTTP/2 connection without TLS, with prior knowledge.
    pub async fn http2(port: u16) -> Result<Self> {
        let stream = connect(port).await?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { port, sender: Sender::Http2(sender) })
    }

    /// Sends a request and reads the whole response. Only HTTP/2 allows several at once: see
    /// [`Connection::another_stream`].
    pub async fn call(&mut self, call: Call) -> Result<Response> {
        let what = format!("{} {} on port {}", call.method, call.path, self.port);
        tokio::time::timeout(call.deadline, self.exchange(call))
            .await
            .with_context(|| format!("{what}: no answer in time"))?
            .with_context(|| format!("{what}: the connection broke"))
    }

    /// Another handle to the same HTTP/2 connection, for a concurrent call. `None` for HTTP/1.1.
    pub fn another_stream(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => Some(Self { port: self.port, sender: Sender::Http2(sender.clone()) }),
        }
    }

    async fn exchange(&mut self, call: Call) -> Result<Response> {
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request(call, self.port, Version::HTTP_11)?).await?
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request(call, self.port, Version::HTTP_2)?).await?
            }
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().map(pairs).unwrap_or_default();
        Ok(Response {
            status: head.status.as_u16(),
            headers: pairs(&head.headers),
            body: body.to_bytes().to_vec(),
            trailers,
        })
    }
}

async fn connect(port: u16) -> Result<TcpStream> {
    let stream =
        TcpStream::connect(local(port)).await.with_context(|| format!("nobody listens on port {port}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn request(call: Call, port: u16, version: Version) -> Result<Request<Body>> {
    let host = call.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
    let authority = host.map_or_else(|| format!("127.0.0.1:{port}"), |(_, value)| value.clone());
    let mut builder = Request::builder().method(call.method.as_str()).version(version);
    if version == Version::HTTP_2 {
        builder = builder.uri(format!("http://{authority}{}", call.path));
    } else {
        builder = builder.uri(&call.path).header("host", authority);
    }
    for (name, value) in &call.headers {
        if !name.eq_ignore_ascii_case("host") {
            builder = builder.header(name, value);
        }
    }
    let body = Full::new(Bytes::from(call.body));
    if call.trailers.is_empty() {
        return Ok(builder.body(Either::Left(body))?);
    }
    let mut trailers = HeaderMap::new();
    for (name, value) in &call.trailers {
        trailers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    Ok(builder.body(Either::Right(body.with_trailers(ready(Some(Ok(trailers))))))?)
}

fn pairs(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}
