//! A control plane that returns the responses that the test sets, valid or not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use omniflow_policy::gateway::{DELTA_MEDIA_TYPE, MANIFEST_MEDIA_TYPE, PollRequest};
use omniflow_policy::snapshot::Image;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The response to one poll.
#[derive(Clone)]
pub(crate) enum Answer {
    /// A manifest; its chunks are served as they are.
    Image(Image),
    /// A manifest as given, which no chunks follow.
    Manifest(Vec<u8>),
    /// A delta as given.
    Delta(Vec<u8>),
    /// A status with a body of that type.
    Other(u16, &'static str, Vec<u8>),
    /// The headers of a response, fewer bytes than they announce, and the end of the connection.
    Half,
    /// A manifest whose chunks are these instead of its own.
    Chunks(Image, Vec<u8>),
}

/// A listening control plane.
#[derive(Clone)]
pub(crate) struct Hostile {
    port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    answers: VecDeque<Answer>,
    image: Option<Image>,
    chunk: Option<Vec<u8>>,
    polls: Vec<PollRequest>,
}

impl Hostile {
    /// Listens on a free port.
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let hostile = Self { port: listener.local_addr()?.port(), state: Arc::default() };
        let state = hostile.state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, state.clone()));
            }
        });
        Ok(hostile)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Queues the response to one of the next polls. Without one, a poll is held for a moment and ends with 204.
    pub(crate) fn answer(&self, answer: Answer) {
        self.state.lock().unwrap().answers.push_back(answer);
    }

    /// Whether every queued response was sent and another poll has arrived since.
    pub(crate) fn is_drained(&self) -> bool {
        self.state.lock().unwrap().answers.is_empty()
    }

    /// The version in the newest poll.
    pub(crate) fn polled_version(&self) -> u64 {
        self.state.lock().unwrap().polls.last().map_or(0, |poll| poll.version)
    }

    /// Number of polls received.
    pub(crate) fn polls(&self) -> usize {
        self.state.lock().unwrap().polls.len()
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (path, body) = read_request(&mut stream).await?;
        let (status, media_type, body) = respond(&path, &body, &state).await;
        if status == 0 {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {DELTA_MEDIA_TYPE}\r\ncontent-length: 1000\r\n\r\nOMFD"
            );
            stream.get_mut().write_all(head.as_bytes()).await.ok()?;
            return None;
        }
        let length =
            if status == 204 { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {media_type}\r\n{length}\r\n");
        stream.get_mut().write_all(head.as_bytes()).await.ok()?;
        stream.get_mut().write_all(&body).await.ok()?;
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let (mut path, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if path.is_empty() {
            path = line.split(' ').nth(1)?.to_owned();
        } else if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((path, body))
}

async fn respond(path: &str, body: &[u8], state: &Mutex<State>) -> (u16, &'static str, Vec<u8>) {
    if path == "/gateway/v1/poll" {
        let answer = {
            let mut state = state.lock().unwrap();
            state.polls.push(serde_json::from_slice(body).expect("a poll"));
            state.answers.pop_front()
        };
        return match answer {
            None => {
                // Not to be polled in a tight loop; nothing is waited for here.
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                (204, "", Vec::new())
            }
            Some(Answer::Image(image)) => {
                let manifest = image.manifest().encode();
                state.lock().unwrap().image = Some(image);
                (200, MANIFEST_MEDIA_TYPE, manifest)
            }
            Some(Answer::Chunks(image, chunk)) => {
                state.lock().unwrap().chunk = Some(chunk);
                (200, MANIFEST_MEDIA_TYPE, image.manifest().encode())
            }
            Some(Answer::Manifest(bytes)) => (200, MANIFEST_MEDIA_TYPE, bytes),
            Some(Answer::Delta(bytes)) => (200, DELTA_MEDIA_TYPE, bytes),
            Some(Answer::Other(status, media_type, bytes)) => (status, media_type, bytes),
            Some(Answer::Half) => (0, "", Vec::new()),
        };
    }
    if let Some(n) = path.rsplit_once("/chunks/").and_then(|(_, n)| n.parse().ok()) {
        let mut state = state.lock().unwrap();
        let chunk = state.chunk.take().or_else(|| state.image.as_ref()?.chunk_bytes(n));
        return chunk.map_or((410, "", Vec::new()), |chunk| (200, "application/octet-stream", chunk));
    }
    (204, "", Vec::new())
}
