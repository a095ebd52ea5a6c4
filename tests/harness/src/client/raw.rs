//! An HTTP/1.1 client that sends exactly the given bytes, valid or not.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{DEADLINE, Response, local};

/// A TCP connection on which a test can write any bytes.
#[derive(Debug)]
pub struct RawConnection {
    stream: BufReader<TcpStream>,
    deadline: Duration,
}

/// Sends `bytes` over a separate connection and reads one response.
pub async fn exchange(port: u16, bytes: &[u8]) -> Result<Response> {
    let mut connection = RawConnection::open(port).await?;
    connection.send(bytes).await?;
    connection.receive().await
}

impl RawConnection {
    /// Connects to 127.0.0.1.
    pub async fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(local(port))
            .await
            .with_context(|| format!("nobody listens on port {port}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), deadline: DEADLINE })
    }

    /// Sets the time limit of each send and each receive.
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sends these bytes.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        timeout(self.deadline, self.stream.get_mut().write_all(bytes))
            .await
            .context("sending took too long")??;
        Ok(())
    }

    /// Reads one response to a request other than HEAD.
    pub async fn receive(&mut self) -> Result<Response> {
        timeout(self.deadline, read_response(&mut self.stream, false)).await.context("no answer in time")?
    }

    /// Reads one response to a HEAD request, which has no body, regardless of its headers.
    pub async fn receive_head(&mut self) -> Result<Response> {
        timeout(self.deadline, read_response(&mut self.stream, true)).await.context("no answer in time")?
    }

    /// Reads the bytes that have arrived, at least one.
    pub async fn read_some(&mut self) -> Result<Vec<u8>> {
        let read = timeout(self.deadline, self.stream.fill_buf()).await.context("nothing in time")??.to_vec();
        ensure!(!read.is_empty(), "the connection was closed");
        self.stream.consume(read.len());
        Ok(read)
    }

    /// Reads until the other side closes.
    pub async fn read_to_end(&mut self) -> Result<Vec<u8>> {
        let mut rest = Vec::new();
        timeout(self.deadline, self.stream.read_to_end(&mut rest)).await.context("not closed in time")??;
        Ok(rest)
    }
}

/// RFC 9112, section 6.3: how long a body is.
async fn read_response(stream: &mut BufReader<TcpStream>, to_head: bool) -> Result<Response> {
    let (status, headers) = loop {
        let status = read_status(stream).await?;
        let headers = read_headers(stream).await?;
        // Interim responses, such as 100 Continue, precede the final one.
        if !(100..200).contains(&status) || status == 101 {
            break (status, headers);
        }
    };
    let mut response = Response { status, headers, body: Vec::new(), trailers: Vec::new() };
    if to_head || matches!(status, 101 | 204 | 304) {
        return Ok(response);
    }
    if response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        response.body = read_chunks(stream).await?;
        response.trailers = read_headers(stream).await?;
    } else if let Some(length) = response.header("content-length") {
        response.body = vec![0; length.parse().with_context(|| format!("content-length: {length}"))?];
        stream.read_exact(&mut response.body).await?;
    } else {
        stream.read_to_end(&mut response.body).await?;
    }
    Ok(response)
}

async fn read_status(stream: &mut BufReader<TcpStream>) -> Result<u16> {
    let line = read_line(stream).await?;
    let text = String::from_utf8_lossy(&line);
    let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    status.with_context(|| format!("not a status line: {text:?}"))
}

async fn read_headers(stream: &mut BufReader<TcpStream>) -> Result<Vec<(String, Vec<u8>)>> {
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream).await?;
        if line.is_empty() {
            return Ok(headers);
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            bail!("a header line without a colon: {:?}", String::from_utf8_lossy(&line));
        };
        let (name, value) = line.split_at(colon);
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        headers.push((name, value.get(1..).unwrap_or_default().trim_ascii().to_vec()));
    }
}

async fn read_chunks(stream: &mut BufReader<TcpStream>) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = String::from_utf8(read_line(stream).await?)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).with_context(|| format!("a chunk of size {size:?}"))?;
        if size == 0 {
            return Ok(body);
        }
        let start = body.len();
        body.resize(start + size, 0);
        stream.read_exact(body.get_mut(start..).unwrap_or_default()).await?;
        read_line(stream).await?;
    }
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> Result<Vec<u8>> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).await?;
    if line.pop() != Some(b'\n') {
        bail!("the connection was closed in the middle of an answer");
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}
