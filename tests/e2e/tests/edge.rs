//! The control plane's own edge, exposed to strangers: connections that send almost nothing, headers and bodies that
//! are too long, and files and memory that must stay private.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use omniflow_harness::client::{exchange, local};
use omniflow_harness::control_plane::ControlPlaneOptions;
use omniflow_harness::ports::Port;
use omniflow_harness::{Call, ControlPlane, eventually, omf_command};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::interval_at;

use crate::certificates::Authority;

/// How many connections there are that send a byte a second.
const ATTACKERS: usize = 10_000;
/// Files that this process needs besides them.
const OTHER_FILES: u64 = 500;
/// How many calls of an admin are measured, each on a new connection.
const CALLS: usize = 100;
/// One at a time: each has as many files as this process may open, and all that the machine can do.
static SIEGE: Mutex<()> = Mutex::const_new(());
/// Longer than any of them may take.
const LATENCY: Duration = Duration::from_secs(5);
const WAIT: Duration = Duration::from_secs(120);

/// The bytes that attackers send before they begin to drip.
#[derive(Clone, Debug)]
struct Opening(Vec<u8>);

/// Attackers at work. Dropped, they are gone.
struct Attackers {
    _attackers: JoinSet<()>,
    arrived: Arc<AtomicUsize>,
}

/// Has this process open as many files as the attackers need.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let needed = ATTACKERS as u64 + OTHER_FILES;
    let hard = limit.maximum.unwrap_or(u64::MAX);
    assert!(
        hard >= needed,
        "{ATTACKERS} connections need {needed} open files, and the hard limit is {hard}: raise it for whoever runs \
         the tests (ulimit -Hn {needed} as root, LimitNOFILE= of the service, or --ulimit nofile={needed} of the container)"
    );
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}

/// A sequence of connections with the same purpose: some opening bytes, then one byte per second. Each starts `place`
/// milliseconds after the first and keeps that distance, because the test is about many connections, not about their
/// simultaneous arrival.
async fn drip(
    address: SocketAddr,
    place: usize,
    source: Option<Ipv4Addr>,
    opening: Opening,
    arrived: Arc<AtomicUsize>,
) {
    let first_time = tokio::time::Instant::now() + Duration::from_millis(place as u64);
    let mut seconds = interval_at(first_time, Duration::from_secs(1));
    let mut first = true;
    loop {
        seconds.tick().await;
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(source) = source {
            socket.bind((source, 0).into()).unwrap();
        }
        // Otherwise, it would leave ports that cannot be used for a minute.
        socket.set_zero_linger().unwrap();
        let Ok(mut stream) = socket.connect(address).await else { continue };
        if stream.write_all(&opening.0).await.is_err() {
            continue;
        }
        if std::mem::take(&mut first) {
            arrived.fetch_add(1, Ordering::Relaxed);
        }
        let mut answer = [0; 4096];
        loop {
            seconds.tick().await;
            let ended = matches!(stream.try_read(&mut answer), Ok(0));
            if ended || stream.write_all(b"x").await.is_err() {
                break;
            }
        }
    }
}

impl Attackers {
    /// Each takes the next of these openings. They come from this machine's own address, or from 250 others.
    async fn gather(port: u16, openings: &[Opening], elsewhere: bool) -> Self {
        let arrived = Arc::new(AtomicUsize::new(0));
        let mut attackers = JoinSet::new();
        for (number, opening) in openings.iter().cycle().take(ATTACKERS).enumerate() {
            let source = elsewhere.then(|| Ipv4Addr::new(127, 3, 0, 1 + (number % 250) as u8));
            attackers.spawn(drip(local(port), number, source, opening.clone(), Arc::clone(&arrived)));
        }
        let attackers = Self { _attackers: attackers, arrived };
        let all = eventually(WAIT, || async {
            let arrived = attackers.arrived.load(Ordering::Relaxed);
            ensure!(arrived == ATTACKERS, "{arrived} attackers of {ATTACKERS}");
            Ok(())
        });
        all.await.unwrap();
        attackers
    }
}

/// The memory of a process in MiB.
fn memory(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// The median and the longest of what these calls took.
async fn latencies(call: impl AsyncFn() -> Result<()>) -> (Duration, Duration) {
    let mut all = Vec::new();
    for number in 0..CALLS {
        let start = Instant::now();
        call().await.unwrap_or_else(|error| panic!("call {number} of an admin: {error:#}"));
        all.push(start.elapsed());
    }
    all.sort();
    (all[CALLS / 2], all[CALLS - 1])
}

async fn number(server: &ControlPlane, name: &str) -> u64 {
    let metrics = server.expect(200, Call::get("/metrics")).await.unwrap().text();
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("{name} in {metrics}")).trim().parse().unwrap()
}

/// Heads and bodies of HTTP/1.1, and of HTTP/2 a head and a stream that stalls; with a gateway's token and without one.
fn openings(gateway: &str) -> Vec<Opening> {
    let text = |text: &str| Opening(text.as_bytes().to_vec());
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    // POST / at the authority x, by HPACK's static table (RFC 7541, appendix A); the stream stays open.
    const STREAM: &[u8] = &[0, 0, 6, 1, 4, 0, 0, 0, 1, 0x83, 0x86, 0x84, 0x41, 1, b'x'];
    // DATA of 16,383 bytes, sent at one byte per second; likewise HEADERS.
    const DATA: &[u8] = &[0, 0x3f, 0xff, 0, 0, 0, 0, 0, 1];
    const HEADERS: &[u8] = &[0, 0x3f, 0xff, 1, 4, 0, 0, 0, 1];
    vec![
        text(""),
        text("GET /v1/keys HTTP/1.1\r\nhost: x\r\nx-slow: "),
        text(
            "POST /v1/keys HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 200000\r\n\r\n",
        ),
        Opening([PREFACE, STREAM, DATA].concat()),
        Opening([PREFACE, HEADERS].concat()),
        text("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"),
        text("GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n"),
        text(&format!(
            "POST /gateway/v1/audit HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway}\r\n\
             content-type: application/vnd.omniflow.audit\r\ncontent-length: 200000\r\n\r\n"
        )),
    ]
}

/// The effect on an admin of 10,000 connections that send one byte per second.
async fn besiege(elsewhere: bool) {
    let _turn = SIEGE.lock().await;
    raise_file_limit();
    let (folder, port) = (TempDir::new().unwrap(), Port::reserve().unwrap());
    let server = ControlPlane::start(ControlPlaneOptions::new(folder.path(), port.number())).await.unwrap();
    let gateway = server.create_token("edge", "gateway").await.unwrap();
    let id = server.process().id();
    let admin = async || server.get("/v1/keys").await.map(drop);
    let (median, longest) = latencies(admin).await;
    let before = memory(id);

    let attackers = Attackers::gather(server.port(), &openings(&gateway), elsewhere).await;
    let (median_then, longest_then) = latencies(admin).await;
    let during = memory(id);
    let (open, ended) =
        (number(&server, "omf_connections ").await, number(&server, "omf_connections_ended_total ").await);
    let key = server.create_live_key("made under siege", &["contacts:read"]).await.unwrap();
    server.revoke(&key.id, None).await.unwrap();
    drop(attackers);
    println!(
        "{ATTACKERS} connections from {}: an admin's call took {median:?} ({longest:?} at most) before and \
         {median_then:?} ({longest_then:?}) during it; memory {before} MiB before, {during} MiB during it; {open} \
         connections open, {ended} ended for others",
        if elsewhere { "250 other addresses" } else { "the admin's own address" }
    );
    assert!(longest_then < LATENCY, "{longest_then:?}");
    assert!(open > 4_000, "{open} connections: that was no siege");
    assert!(during < before + 512, "{during} MiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_slow_connections_from_an_admins_own_address_do_not_keep_the_admin_out() {
    besiege(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_slow_connections_from_elsewhere_do_not_keep_an_admin_out() {
    besiege(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_stalled_handshakes_do_not_keep_an_admin_out() {
    let _turn = SIEGE.lock().await;
    raise_file_limit();
    let (folder, port, authority) = (TempDir::new().unwrap(), Port::reserve().unwrap(), Authority::new());
    authority.issue(folder.path(), "tls", 2100);
    let ca = authority.publish(folder.path());
    let mut serve = omf_command().unwrap();
    serve.args(["serve", "--data-dir", "data", "--tls-certificate", "tls.crt", "--tls-key", "tls.key"]);
    serve.args(["--listen", &local(port.number()).to_string()]).current_dir(folder.path());
    let process =
        omniflow_harness::process::Process::spawn("omf", &mut serve, &folder.path().join("log")).unwrap();
    let url = format!("https://localhost:{}", port.number());
    let admin = async || {
        let mut omf = omf_command()?;
        omf.args(["key", "list", "--url", &url, "--token-file", "data/admin-token", "--ca-file"]).arg(&ca);
        let output = omf.current_dir(folder.path()).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    eventually(WAIT, admin).await.unwrap();
    let (median, longest) = latencies(admin).await;
    let before = memory(process.id());
    // Nothing at all, and the beginning of a ClientHello of 512 bytes.
    let openings = [Opening(Vec::new()), Opening(vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3])];
    let attackers = Attackers::gather(port.number(), &openings, false).await;
    let (median_then, longest_then) = latencies(admin).await;
    let during = memory(process.id());
    drop(attackers);
    println!(
        "{ATTACKERS} handshakes that stall: omf key list took {median:?} ({longest:?} at most) before and \
         {median_then:?} ({longest_then:?}) during it; memory {before} MiB before, {during} MiB during it"
    );
    assert!(longest_then < LATENCY, "{longest_then:?}");
    assert!(during < before + 512, "{during} MiB");
}

#[tokio::test]
async fn what_is_too_long_is_refused_with_its_status() {
    let (folder, port) = (TempDir::new().unwrap(), Port::reserve().unwrap());
    let server = ControlPlane::start(ControlPlaneOptions::new(folder.path(), port.number())).await.unwrap();
    let many: String = (0..200).map(|number| format!("x-{number}: 1\r\n")).collect();
    for (what, head, status) in [
        (
            "a long header",
            format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(20_000)),
            431,
        ),
        ("many headers", format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n"), 431),
        ("a long target", format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(20_000)), 431),
        ("no HTTP", "HELLO\r\n\r\n".to_owned(), 400),
        ("within the limits", "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 200),
    ] {
        let answer = exchange(server.port(), head.as_bytes()).await.unwrap();
        assert_eq!(answer.status, status, "{what}");
    }
    let long = json!({"name": "x".repeat(300_000)});
    let refused = server.expect(413, Call::post("/v1/keys", &long)).await.unwrap();
    assert_eq!(refused.problem_code().as_deref(), Some("body_too_large"));
}

#[tokio::test]
async fn its_memory_and_its_files_are_its_own() {
    let (folder, port) = (TempDir::new().unwrap(), Port::reserve().unwrap());
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    let server = ControlPlane::start(ControlPlaneOptions {
        log: folder.path().join("log"),
        ..ControlPlaneOptions::new(&data, port.number())
    })
    .await
    .unwrap();
    server.create_live_key("ci", &["contacts:read"]).await.unwrap();
    assert_eq!(core_limit(&server), ["0", "0"]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    let mut names: Vec<String> = Vec::new();
    for file in fs::read_dir(&data).unwrap() {
        let file = file.unwrap();
        assert_eq!(mode(&file.path()), 0o600, "{:?}", file.path());
        names.push(file.file_name().into_string().unwrap());
    }
    for name in
        ["admin-token", "omniflow.db", "omniflow.db-wal", "omniflow.db-shm", "audit.db", "audit.db-wal"]
    {
        assert!(names.iter().any(|found| found == name), "{name} in {names:?}");
    }
    let backup = folder.path().join("backup");
    let mut omf = omf_command().unwrap();
    omf.args(["db", "backup"]).arg(&backup).arg("--data-dir").arg(&data);
    let output = omf.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(mode(&backup), 0o700);
    for file in fs::read_dir(&backup).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{path:?}");
    }

    // The way out, for debugging.
    server.stop().unwrap();
    let server = ControlPlane::start(ControlPlaneOptions {
        log: folder.path().join("log"),
        environment: vec![("OMF_ALLOW_CORE_DUMPS".to_owned(), "1".to_owned())],
        ..ControlPlaneOptions::new(&data, port.number())
    })
    .await
    .unwrap();
    let [_, hard] = core_limit(&server);
    let ours = getrlimit(Resource::Core).maximum;
    assert_eq!(hard, ours.map_or("unlimited".to_owned(), |bytes| bytes.to_string()));
}

/// The soft and hard limits of a core dump.
fn core_limit(server: &ControlPlane) -> [String; 2] {
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.process().id())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    let mut words = line.split_whitespace().map(str::to_owned);
    [words.next().unwrap(), words.next().unwrap()]
}

#[test]
fn a_secret_that_everybody_may_read_is_rejected_before_anything_is_made() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    Authority::new().issue(folder.path(), "tls", 2100);
    fs::write(path("payload-key"), "0f".repeat(32)).unwrap();
    fs::write(path("webhook-secret"), format!("whsec_{}", "0f0f".repeat(10))).unwrap();
    fs::write(path("token"), "omf_token_x").unwrap();
    let run = |arguments: &[&str]| {
        let mut omf: Command = omf_command().unwrap();
        let output = omf.args(arguments).current_dir(folder.path()).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    };
    let port = Port::reserve().unwrap();
    let listen = local(port.number()).to_string();
    for (file, flags) in [
        ("tls.key", vec!["--tls-certificate", "tls.crt", "--tls-key", "tls.key"]),
        ("payload-key", vec!["--payload-key-file", "payload-key"]),
        (
            "webhook-secret",
            vec!["--webhook-url", "https://x.example/", "--webhook-secret-file", "webhook-secret"],
        ),
    ] {
        let settings = [&["--data-dir", "data", "--listen", &listen], flags.as_slice()].concat();
        for mode in [0o644, 0o604, 0o660] {
            fs::set_permissions(path(file), fs::Permissions::from_mode(mode)).unwrap();
            for command in [vec!["serve"], vec!["config", "check"]] {
                let (taken, text) = run(&[command.as_slice(), settings.as_slice()].concat());
                assert!(!taken, "{command:?} with {file} {mode:o}: {text}");
                assert!(
                    text.contains(file) && text.contains("chmod 600"),
                    "{command:?} {file} {mode:o}: {text}"
                );
                assert!(!text.contains("0f0f"), "{text}");
            }
            assert!(!path("data").exists(), "{file} {mode:o}");
        }
        for mode in [0o600, 0o640, 0o440] {
            fs::set_permissions(path(file), fs::Permissions::from_mode(mode)).unwrap();
            let (taken, text) = run(&[["config", "check"].as_slice(), settings.as_slice()].concat());
            assert!(taken, "{file} {mode:o}: {text}");
        }
    }
    let url = format!("http://{listen}");
    for command in [["doctor"].as_slice(), &["key", "list"]] {
        let (_, text) = run(&[command, &["--url", &url, "--token-file", "token"]].concat());
        assert!(text.contains("token") && text.contains("chmod 600"), "{command:?}: {text}");
    }
}

/// The lines of a source file, without its tests.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension() {
            _ if path.is_dir() => sources(&path, found),
            Some(extension) if extension == "rs" => found.push(path),
            _ => {}
        }
    }
}

/// Whether one side of a comparison is a secret, and the other is not its digest.
fn compares_a_secret(line: &str) -> bool {
    const SECRETS: [&str; 6] = ["secret", "expose(", "csrf", "password", "bearer", "cookie"];
    let sides = line.split("==").flat_map(|part| part.split("!="));
    let word = |c: char| c.is_ascii_alphanumeric() || "_.()&*".contains(c);
    let is_secret = |side: &str| {
        let (before, after) = (side.trim_end(), side.trim_start());
        let last = before.rsplit(|c: char| !word(c)).next().unwrap_or_default();
        let first = after.split(|c: char| !word(c)).next().unwrap_or_default();
        let side = format!("{first} {last}");
        SECRETS.iter().any(|secret| side.contains(secret))
            && !side.contains("len()")
            && !side.contains("digest")
    };
    (line.contains("==") || line.contains("!="))
        && !line.contains("Digest::of(")
        && sides.into_iter().any(is_secret)
}

#[test]
fn no_secret_is_compared_byte_by_byte() {
    assert!(compares_a_secret("if token.secret == given {") && compares_a_secret("x != secret.expose()"));
    assert!(
        !compares_a_secret("Digest::of(csrf) == Digest::of(given)")
            && !compares_a_secret("secret.len() == 5")
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let mut files = Vec::new();
    for folder in ["policy/src", "src", "control-plane"] {
        sources(&root.join(folder), &mut files);
    }
    assert!(files.len() > 100, "{} files", files.len());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in code(&text) {
            let is_comment = line.trim_start().starts_with("//");
            assert!(is_comment || !compares_a_secret(line), "{}:{}: {line}", file.display(), number + 1);
        }
    }
}
