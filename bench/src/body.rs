//! A large body that streams to an upstream while the filter hashes it and stores its beginning.

use std::convert::Infallible;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::cpu;
use crate::statistics::Spread;
use crate::subjects::{Installation, Subject};

/// The length of the body in bytes.
pub(crate) const BODY: usize = 100 * 1024 * 1024;
const PIECE: usize = 64 * 1024;
const PATH: &str = "/api/v1/conversations";

/// The results of one subject.
pub(crate) struct Streamed {
    pub(crate) name: String,
    /// Throughput in MiB per second.
    pub(crate) throughput: Spread,
    /// CPU time of Envoy in milliseconds for the whole body.
    pub(crate) cost: Spread,
    /// The growth of Envoy's memory in KiB, the maximum of all rounds.
    pub(crate) growth: u64,
}

/// Streams the body through bare Envoy and through the product, alternately.
pub(crate) async fn measure(
    folder: &Path,
    installation: &Arc<Installation>,
    rounds: usize,
) -> Result<Vec<Streamed>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let upstream = listener.local_addr()?.port();
    tokio::spawn(serve(listener));
    let of = |name: &str| -> Result<_> {
        let path = folder.join(name);
        fs::create_dir(&path)?;
        Ok(path)
    };
    let subjects = [
        Subject::bare_before(&of("bare-body")?, upstream).await?,
        Subject::product_before(&of("product-body")?, installation, upstream).await?,
    ];
    let mut samples = [Samples::default(), Samples::default()];
    for round in 0..=rounds {
        for (subject, samples) in subjects.iter().zip(&mut samples) {
            let sample = once(subject, &installation.key).await.with_context(|| subject.name.clone())?;
            // The first round warms up.
            if round > 0 {
                samples.add(sample);
            }
        }
    }
    subjects
        .iter()
        .zip(samples)
        .map(|(subject, samples)| {
            Ok(Streamed {
                name: subject.name.clone(),
                throughput: Spread::of(&samples.throughput).context("nothing was measured")?,
                cost: Spread::of(&samples.cost).context("nothing was measured")?,
                growth: samples.growth,
            })
        })
        .collect()
}

#[derive(Default)]
struct Samples {
    throughput: Vec<f64>,
    cost: Vec<f64>,
    growth: u64,
}

struct Sample {
    took: Duration,
    spent: Duration,
    growth: u64,
}

impl Samples {
    fn add(&mut self, sample: Sample) {
        self.throughput.push(BODY as f64 / f64::from(1 << 20) / sample.took.as_secs_f64());
        self.cost.push(sample.spent.as_secs_f64() * 1e3);
        self.growth = self.growth.max(sample.growth);
    }
}

async fn once(subject: &Subject, key: &str) -> Result<Sample> {
    let process = subject.process();
    // This resets the peak memory to the current value; see proc(5).
    fs::write(format!("/proc/{process}/clear_refs"), "5")?;
    let memory = kibibytes(process, "VmRSS:")?;
    let before = cpu::time_of(process)?;
    let started = Instant::now();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, subject.port())).await?;
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\ncontent-length: {BODY}\r\n\
         connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let piece = vec![b'x'; PIECE];
    for _ in 0..BODY / PIECE {
        stream.write_all(&piece).await?;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "unexpected response:\n{answer}");
    Ok(Sample {
        took: started.elapsed(),
        spent: cpu::time_of(process)?.saturating_sub(before),
        growth: kibibytes(process, "VmHWM:")?.saturating_sub(memory),
    })
}

fn kibibytes(process: u32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// An upstream that reads every body.
async fn serve(listener: TcpListener) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let answer = service_fn(|request: Request<Incoming>| async move {
                let mut body = request.into_body();
                while let Some(Ok(_)) = body.frame().await {}
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            });
            // Envoy reopens a broken connection.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
