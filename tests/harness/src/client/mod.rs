//! Clients for tests: exact bytes over a TCP stream, and proper HTTP/1.1 and HTTP/2 connections.

mod closed_window;
mod connection;
mod raw;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

pub use closed_window::requests_with_a_closed_window;
pub use connection::Connection;
pub use raw::{RawConnection, exchange};

/// Default time limit of a call.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// A request.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method, e.g. `GET`.
    pub method: String,
    /// The path with its query string.
    pub path: String,
    /// Header names and values, in order.
    pub headers: Vec<(String, String)>,
    /// The body, sent in one piece.
    pub body: Vec<u8>,
    /// Trailers, which HTTP/2 can send after the body.
    pub trailers: Vec<(String, String)>,
    /// Time limit of the response.
    pub deadline: Duration,
}

/// A complete response.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header names in lower case, with their values, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Vec<u8>,
    /// Trailers, with names in lower case.
    pub trailers: Vec<(String, Vec<u8>)>,
}

/// 127.0.0.1 at this port.
pub fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// One HTTP/1.1 call over a separate connection.
pub async fn call(port: u16, call: Call) -> Result<Response> {
    Connection::http1(port).await?.call(call).await
}

// === impl Call ===

impl Call {
    /// A request without headers and body.
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            trailers: Vec::new(),
            deadline: DEADLINE,
        }
    }

    /// A GET.
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// A POST with a JSON body.
    pub fn post(path: &str, body: &Value) -> Self {
        Self::new("POST", path).json(body)
    }

    /// A unary gRPC call with one message.
    pub fn grpc(path: &str, message: &[u8]) -> Self {
        let mut framed = vec![0];
        framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
        framed.extend_from_slice(message);
        Self::new("POST", path)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(framed)
    }

    /// Adds a header. An existing header of the same name stays.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds `Authorization: Bearer …`.
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Adds a trailer.
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets a JSON body and its type.
    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// Sets the time limit of the response.
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

// === impl Response ===

impl Response {
    /// The only value of a header. `None` if the header is missing, repeated or not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        only(&self.headers, name)
    }

    /// A header that must be a whole number, such as `X-RateLimit-Limit`.
    pub fn number(&self, name: &str) -> Result<u64> {
        let value = self.header(name).with_context(|| format!("not exactly one {name} in {self:?}"))?;
        value.parse().with_context(|| format!("{name}: {value} is not a whole number"))
    }

    /// The body as text; invalid UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("status {}, and the body is not JSON: {}", self.status, self.text()))
    }

    /// The `code` of a problem document.
    pub fn problem_code(&self) -> Option<String> {
        Some(self.json().ok()?.get("code")?.as_str()?.to_owned())
    }

    /// The gRPC status, from the trailers or, if the response had no message, from the headers.
    pub fn grpc_status(&self) -> Option<u32> {
        only(&self.trailers, "grpc-status").or_else(|| self.header("grpc-status"))?.parse().ok()
    }
}

fn only<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a str> {
    let mut values = headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
    let (_, value) = values.next()?;
    values.next().is_none().then(|| std::str::from_utf8(value).ok())?
}
