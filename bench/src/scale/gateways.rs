//! Gateways without Envoy: any number of connections in this process that poll like the filter.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use omniflow_harness::control_plane::ControlPlane;
use omniflow_policy::gateway::{
    DELTA_MEDIA_TYPE, Incarnation, MANIFEST_MEDIA_TYPE, POLL_PATH, PollRequest, VmStatus, chunk_path,
};
use omniflow_policy::snapshot::{self, Delta, Manifest, Segment, SegmentHasher, split_chunk};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// The duration of a long poll, as in the filter.
const WAIT_MS: u64 = 20_000;

/// A gateway that polls.
pub(super) struct Gateway {
    port: u16,
    token: Arc<str>,
    number: u64,
    stream: TcpStream,
    received: Vec<u8>,
    /// The installation and version of its snapshot.
    held: Option<(Uuid, u64)>,
}

/// A version that a gateway has received.
pub(super) struct Reached {
    /// The version.
    pub(super) version: u64,
    /// When the gateway received it.
    pub(super) at: Instant,
}

struct Answer {
    status: u16,
    media_type: String,
}

/// Gateways that poll until this is dropped.
pub(super) struct Fleet {
    tasks: Vec<JoinHandle<Result<()>>>,
    /// Each version that a gateway has received.
    pub(super) reached: mpsc::UnboundedReceiver<Reached>,
}

// === impl Fleet ===

impl Fleet {
    /// Starts polling with all gateways.
    pub(super) fn start(gateways: Vec<Gateway>) -> Self {
        let (sender, reached) = mpsc::unbounded_channel();
        let tasks = gateways
            .into_iter()
            .map(|mut gateway| {
                let sender = sender.clone();
                tokio::spawn(async move {
                    loop {
                        if let Some(version) = gateway.poll(WAIT_MS).await? {
                            let _ = sender.send(Reached { version, at: Instant::now() });
                        }
                    }
                })
            })
            .collect();
        Self { tasks, reached }
    }

    /// Fails if a gateway has ended.
    pub(super) async fn check(&mut self) -> Result<()> {
        if let Some(ended) = self.tasks.iter_mut().find(|task| task.is_finished()) {
            ended.await??;
            bail!("a gateway has ended");
        }
        Ok(())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

// === impl Gateway ===

impl Gateway {
    /// A gateway without a snapshot, with its own token.
    pub(super) async fn new(control_plane: &ControlPlane, number: u64) -> Result<Self> {
        let token = control_plane.create_token(&format!("gateway-{number}"), "gateway").await?;
        Self::with_token(control_plane.port(), token.into(), number).await
    }

    /// The same gateway after a restart, without a snapshot.
    pub(super) async fn anew(&self) -> Result<Self> {
        Self::with_token(self.port, Arc::clone(&self.token), self.number).await
    }

    async fn with_token(port: u16, token: Arc<str>, number: u64) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { port, token, number, stream, received: Vec::new(), held: None })
    }

    /// The installation of its snapshot.
    pub(super) fn installation(&self) -> Option<Uuid> {
        self.held.map(|(installation, _)| installation)
    }

    /// Sets the version without fetching the image.
    pub(super) fn hold(&mut self, installation: Uuid, version: u64) {
        self.held = Some((installation, version));
    }

    /// Polls once and applies the response. Returns the version if it is new.
    pub(super) async fn poll(&mut self, wait_ms: u64) -> Result<Option<u64>> {
        let version = self.held.map_or(0, |(_, version)| version);
        let vm = |id| VmStatus { id: Incarnation(self.number * 8 + id), version };
        let poll = PollRequest {
            gateway: format!("gateway-{}", self.number),
            incarnation: Incarnation(self.number),
            filter_version: env!("CARGO_PKG_VERSION").to_owned(),
            snapshot_format: snapshot::FORMAT,
            installation: self.held.map(|(installation, _)| installation),
            version,
            wait_ms,
            cut_after_ms: None,
            clock: omniflow_policy::time::UnixMillis(0),
            // Two workers and the main thread.
            vms: vec![vm(0), vm(1), vm(2)],
        };
        let body = serde_json::to_string(&poll)?;
        let head = format!(
            "POST {POLL_PATH} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        let answer = self.exchange(&head).await?;
        match (answer.status, answer.media_type.as_str()) {
            (204, _) => Ok(None),
            (200, DELTA_MEDIA_TYPE) => {
                let delta = Delta::decode(&self.received)?;
                ensure!(delta.from == version, "the delta is based on another version");
                self.held = Some((delta.installation, delta.to));
                Ok(Some(delta.to))
            }
            (200, MANIFEST_MEDIA_TYPE) => {
                let manifest = Manifest::decode(&self.received)?;
                self.take(&manifest).await?;
                self.held = Some((manifest.installation, manifest.version));
                Ok(Some(manifest.version))
            }
            (status, _) => bail!("a poll got {status}: {}", String::from_utf8_lossy(&self.received)),
        }
    }

    /// Fetches a full image and verifies it.
    async fn take(&mut self, manifest: &Manifest) -> Result<()> {
        let (mut sum, mut index) = (SegmentHasher::default(), 0);
        for chunk in 0..manifest.chunk_count() {
            let path = chunk_path(manifest.version, chunk);
            let token = &self.token;
            let head = format!("GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n\r\n");
            let answer = self.exchange(&head).await?;
            ensure!(answer.status == 200, "chunk {chunk} got {}", answer.status);
            for page in split_chunk(&self.received)? {
                sum.add(&Segment::parse(page, manifest.segment_id(index))?);
                index += 1;
            }
        }
        ensure!(sum.finish() == manifest.segments_digest, "the segments do not match the manifest");
        Ok(())
    }

    /// Sends a request and reads the response; its body is then in `received`.
    async fn exchange(&mut self, request: &str) -> Result<Answer> {
        self.stream.write_all(request.as_bytes()).await?;
        self.received.clear();
        loop {
            ensure!(self.stream.read_buf(&mut self.received).await? > 0, "the connection was closed");
            let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8(self.received.drain(..end + 4).take(end).collect())?;
            let field = |name: &str| {
                head.lines().find_map(|line| {
                    let (found, value) = line.split_once(':')?;
                    found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
                })
            };
            let status = head.split(' ').nth(1).context("no status")?.parse()?;
            let length = field("content-length").map_or(Ok(0), |length| length.parse())?;
            while self.received.len() < length {
                ensure!(self.stream.read_buf(&mut self.received).await? > 0, "the connection was closed");
            }
            ensure!(self.received.len() == length, "more than one answer");
            return Ok(Answer { status, media_type: field("content-type").unwrap_or_default() });
        }
    }
}
