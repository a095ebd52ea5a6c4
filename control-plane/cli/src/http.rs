//! Blocking calls with the asynchronous HTTP client.
//!
//! A command makes one call after another. A runtime that only runs during a call keeps `async` out of every command, without
//! the additional thread of reqwest's blocking client. Signals are not handled, so Ctrl-C ends the process immediately, even
//! while it waits for a stream.

use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::{Buf, Bytes};
use omniflow_http_client::{CaFileError, ClientError, new_client, read_body, root_cause};
use reqwest::header::HeaderName;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use tokio::runtime::{Builder, Runtime};

/// Size limit in bytes of a body that is read as a whole, well above the largest response of the API.
const MAX_BODY: usize = 10 * 1024 * 1024;

/// Makes calls, one at a time.
pub(crate) struct Http {
    client: Client,
    runtime: Runtime,
}

/// A response whose body has not been read yet. It can be read as a whole, or as it arrives.
pub(crate) struct Response<'a> {
    response: reqwest::Response,
    runtime: &'a Runtime,
    /// Received bytes that were not read yet.
    chunk: Bytes,
}

// === impl Http ===

impl Http {
    /// A client that trusts the CA certificates in a file, or the public CAs.
    pub(crate) fn new(ca_file: Option<&Path>, connect_timeout: Duration) -> anyhow::Result<Self> {
        let client = new_client(ca_file, connect_timeout).map_err(|error| match error {
            ClientError::CaFile(CaFileError::NotCertificates(_)) => {
                anyhow!("{error}: specify another file with --ca-file")
            }
            _ => error.into(),
        })?;
        let runtime =
            Builder::new_current_thread().enable_all().build().context("cannot start the HTTP client")?;
        Ok(Self { client, runtime })
    }

    /// Starts building a request.
    pub(crate) fn request(&self, method: Method, url: &str) -> RequestBuilder {
        self.client.request(method, url)
    }

    /// Sends a request and waits for the head of the response. `timeout` includes the body; without it, reading the body is
    /// not limited.
    pub(crate) fn send(
        &self,
        request: RequestBuilder,
        timeout: Option<Duration>,
    ) -> reqwest::Result<Response<'_>> {
        let request = match timeout {
            Some(timeout) => request.timeout(timeout),
            None => request,
        };
        // The timeout can only be started inside the runtime.
        let response = self.runtime.block_on(async { request.send().await })?;
        Ok(Response { response, runtime: &self.runtime, chunk: Bytes::new() })
    }
}

// === impl Response ===

impl Response<'_> {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The value of a header, if it is text.
    pub(crate) fn header(&self, name: HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The body, or `None` if it is too long.
    pub(crate) fn body(self) -> reqwest::Result<Option<Vec<u8>>> {
        self.runtime.block_on(read_body(self.response, MAX_BODY))
    }
}

impl Read for Response<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.runtime.block_on(self.response.chunk()) {
                Ok(Some(chunk)) => self.chunk = chunk,
                Ok(None) => return Ok(0),
                Err(error) => return Err(io::Error::other(root_cause(&error))),
            }
        }
        let read = self.chunk.as_ref().read(buffer)?;
        self.chunk.advance(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Other tests call from a runtime thread; the commands do not.
    #[test]
    fn a_call_with_a_timeout_needs_no_runtime_around_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").unwrap();
        });
        let timeout = Duration::from_secs(30);
        let http = Http::new(None, timeout).unwrap();
        let response = http.send(http.request(Method::GET, &url), Some(timeout)).unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.body().unwrap().unwrap(), b"hi");
        server.join().unwrap();
    }

    #[test]
    fn a_stream_is_read_as_it_arrives_and_its_loss_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (line_was_read, next) = std::sync::mpsc::channel();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\none\n").unwrap();
            // The second line is sent only after the first was read.
            next.recv_timeout(Duration::from_secs(30)).unwrap();
            stream.write_all(b"two\n").unwrap();
        });
        let http = Http::new(None, Duration::from_secs(30)).unwrap();
        let response = http.send(http.request(Method::GET, &url), None).unwrap();
        let mut lines = BufReader::new(response).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "one");
        line_was_read.send(()).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "two");
        assert!(lines.next().unwrap().is_err(), "92 bytes are missing");
        server.join().unwrap();
    }
}
