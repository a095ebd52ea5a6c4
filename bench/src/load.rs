//! Requests over persistent connections, as fast as possible or at a constant rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The number of connections.
pub(crate) const CONNECTIONS: u64 = 16;

/// The bytes of a request.
#[derive(Clone, Debug)]
pub(crate) struct Request(Arc<[u8]>);

/// A connection that sends one request at a time.
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

// === impl Request ===

impl Request {
    /// A GET with a key.
    pub(crate) fn with_key(path: &str, key: &str) -> Self {
        let text = format!("GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\n\r\n");
        Self(text.into_bytes().into())
    }
}

/// Sends this many requests, one at a time on each connection, and returns the duration.
pub(crate) async fn saturate(port: u16, request: &Request, requests: u64) -> Result<Duration> {
    saturate_in_turn(port, &[request.clone()].into(), requests).await
}

/// Like [`saturate`], with several requests in turn.
pub(crate) async fn saturate_in_turn(port: u16, choice: &Arc<[Request]>, requests: u64) -> Result<Duration> {
    let left = Arc::new(AtomicU64::new(requests));
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(port).await?);
    }
    let started = Instant::now();
    let tasks: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            let (left, choice) = (Arc::clone(&left), Arc::clone(choice));
            tokio::spawn(async move {
                while let Ok(number) =
                    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                {
                    let turn = usize::try_from(number)? % choice.len().max(1);
                    connection.call(choice.get(turn).context("no request")?).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(started.elapsed())
}

/// Sends requests at a constant rate and returns their latencies in microseconds, in ascending order. The latency of a request
/// that had to wait for the previous response counts from when it was due.
pub(crate) async fn latencies(
    port: u16,
    request: &Request,
    per_second: f64,
    time: Duration,
) -> Result<Vec<f64>> {
    let interval = Duration::from_secs_f64(CONNECTIONS as f64 / per_second);
    let started = Instant::now() + Duration::from_millis(10);
    let mut tasks = Vec::new();
    for number in 0..CONNECTIONS {
        let mut connection = Connection::open(port).await?;
        let request = request.clone();
        let first = started + interval.mul_f64(number as f64 / CONNECTIONS as f64);
        tasks.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            let mut due = first;
            while due < started + time {
                let is_late = Instant::now() > due;
                tokio::time::sleep_until(due.into()).await;
                // A late timer of this process must not count as latency of the server; a late response must.
                let from = if is_late { due } else { Instant::now() };
                connection.call(&request).await?;
                latencies.push(from.elapsed().as_secs_f64() * 1e6);
                due += interval;
            }
            anyhow::Ok(latencies)
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await??);
    }
    all.sort_by(f64::total_cmp);
    Ok(all)
}

// === impl Connection ===

impl Connection {
    pub(crate) async fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::with_capacity(4_096) })
    }

    /// Sends a request and reads the complete response, which must be a 200 with a `content-length`.
    pub(crate) async fn call(&mut self, request: &Request) -> Result<()> {
        self.stream.write_all(&request.0).await?;
        self.received.clear();
        loop {
            ensure!(self.stream.read_buf(&mut self.received).await? > 0, "the connection was closed");
            let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n") else {
                continue;
            };
            let head = std::str::from_utf8(self.received.get(..end).unwrap_or_default())?;
            ensure!(head.starts_with("HTTP/1.1 200 "), "unexpected response:\n{head}");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.context("no content-length")?.trim().parse()?;
            match self.received.len() - (end + 4) {
                received if received == length => return Ok(()),
                received if received > length => bail!("more than one answer"),
                _ => {}
            }
        }
    }
}
