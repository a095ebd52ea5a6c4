//! The control plane over TLS: for `omf`, for Envoy, and when its certificate is renewed.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use omniflow_harness::bootstrap;
use omniflow_harness::ports::Port;
use omniflow_harness::process::Process;
use omniflow_harness::{Call, Envoy, EnvoyOptions, Upstream, eventually, omf_command, paths};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::certificates::Authority;
use crate::support::{CONTACTS, contacts};

const WAIT: Duration = Duration::from_secs(30);
/// The guide whose commands and configuration are used here.
const GUIDE: &str = include_str!("../../../docs/guides/envoy.md");

/// A control plane with TLS, and `omf` for it.
struct Secure {
    process: Process,
    authority: Authority,
    port: Port,
    folder: TempDir,
}

impl Secure {
    async fn start() -> Result<Self> {
        Self::start_as(omf_command()?).await
    }

    /// Makes it check its files, and waits until it logs this message.
    async fn renew(&self, what: &str) {
        self.process.hang_up().unwrap();
        let said = eventually(WAIT, async || {
            ensure!(self.process.log().contains(what), "{}", self.process.log_end(5));
            Ok(())
        });
        said.await.unwrap();
    }

    /// Starts it by this command, to which the arguments of `omf` are added.
    async fn start_as(mut command: Command) -> Result<Self> {
        let (folder, port, authority) = (tempfile::tempdir()?, Port::reserve()?, Authority::new());
        authority.issue(folder.path(), "tls", 2100);
        authority.publish(folder.path());
        command.args(["serve", "--data-dir", "data", "--tls-certificate", "tls.crt", "--tls-key", "tls.key"]);
        command.args(["--listen", &format!("127.0.0.1:{}", port.number())]).current_dir(folder.path());
        let process = Process::spawn("the control plane", &mut command, &folder.path().join("log"))?;
        let secure = Self { process, authority, port, folder };
        eventually(WAIT, async || secure.omf("policy show").map(drop))
            .await
            .with_context(|| secure.process.log_end(20))?;
        Ok(secure)
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://localhost:{}", self.port.number())
    }

    /// What `omf` prints, where it trusts the authority.
    fn omf(&self, line: &str) -> Result<String> {
        self.run(&format!("{line} --ca-file ca.crt"), &self.url("https"))
    }

    /// When the certificate expires, in seconds since 1970, as the metrics have it.
    fn expiry_in_metrics(&self) -> Result<i64> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--cacert", "ca.crt"]).arg(format!("{}/metrics", self.url("https")));
        let output = curl.current_dir(self.folder.path()).output()?;
        let text = String::from_utf8(output.stdout)?;
        let value = text.lines().find_map(|line| line.strip_prefix("omf_certificate_not_after_seconds "));
        Ok(value.context("no such metric")?.parse()?)
    }

    fn output(&self, line: &str, url: &str) -> Result<Output> {
        let mut command = omf_command()?;
        command.args(line.split(' ')).args(["--url", url, "--token-file", "data/admin-token"]);
        Ok(command.current_dir(self.folder.path()).output()?)
    }

    fn run(&self, line: &str, url: &str) -> Result<String> {
        let output = self.output(line, url)?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{error}");
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    fn refusal(&self, line: &str, url: &str) -> String {
        self.run(line, url).unwrap_err().to_string()
    }
}

#[tokio::test]
async fn omf_trusts_only_the_given_ca_file() {
    let secure = Secure::start().await.unwrap();
    let https = secure.url("https");
    assert!(secure.omf("key list --json").unwrap().contains("items"));

    let other = tempfile::tempdir().unwrap();
    let stranger = Authority::new().publish(other.path());
    let distrusting = format!("key list --ca-file {}", stranger.display());
    for line in ["key list", &distrusting] {
        let refused = secure.refusal(line, &https);
        assert!(refused.contains("is not trusted"), "{refused}");
        // The error must not suggest what the user has already done.
        assert_eq!(refused.contains("--ca-file"), line == "key list", "{refused}");
    }
    let refused = secure.refusal("key list --ca-file tls.key", &https);
    assert!(refused.contains("tls.key: no usable CA certificates in PEM form"), "{refused}");
    let refused = secure.refusal("key list --ca-file ca.crt", &secure.url("http"));
    assert!(refused.contains("use https:// in the URL"), "{refused}");

    let plain = Upstream::start("plain", Port::reserve().unwrap().number()).unwrap();
    let url = format!("https://127.0.0.1:{}", plain.port());
    let refused = secure.refusal("key list --ca-file ca.crt", &url);
    assert!(refused.contains("does not use TLS: use http://"), "{refused}");
}

#[tokio::test]
async fn a_renewed_certificate_is_served_and_one_that_cannot_be_used_is_not() {
    let secure = Secure::start().await.unwrap();
    let folder = secure.folder.path();
    let reported = async |what: &str| secure.renew(what).await;

    // A key that does not belong to the certificate: an incomplete renewal.
    secure.authority.issue(folder, "half", 2101);
    fs::copy(folder.join("half.key"), folder.join("tls.key")).unwrap();
    reported("not the key of the first certificate").await;
    secure.omf("key list").unwrap();

    // A certificate of another authority, so that a client can detect which one is served.
    let next = Authority::new();
    next.issue(folder, "tls", 2102);
    reported("2102-01-01").await;
    let refused = secure.omf("key list").unwrap_err().to_string();
    assert!(refused.contains("is not trusted"), "{refused}");
    next.publish(folder);
    secure.omf("key list").unwrap();

    // An expired certificate, in place of a valid one.
    next.issue(folder, "tls", 2020);
    reported("expired on 2020-01-01").await;
    secure.omf("key list").unwrap();

    let expiry = |time: &str| time.parse::<jiff::Timestamp>().unwrap().as_second();
    assert_eq!(secure.expiry_in_metrics().unwrap(), expiry("2102-01-01T00:00:00Z"));
    next.issue_for(folder, "tls", 2103, &["keys.example", "localhost"]);
    reported("2103-01-01").await;
    assert_eq!(secure.expiry_in_metrics().unwrap(), expiry("2103-01-01T00:00:00Z"));
    next.issue_for(folder, "tls", 2104, &["keys.example", "192.0.2.1"]);
    reported("2104-01-01").await;
    let refused = secure.omf("key list").unwrap_err().to_string();
    assert!(
        refused.contains("is for another name") && refused.contains("(keys.example, 192.0.2.1)"),
        "{refused}"
    );
    let doctor = secure.output("doctor --ca-file ca.crt", &secure.url("https")).unwrap();
    let checked = String::from_utf8_lossy(&doctor.stdout);
    assert!(!doctor.status.success(), "{checked}");
    assert!(
        checked.contains("is for another name") && checked.contains("(keys.example, 192.0.2.1)"),
        "{checked}"
    );
    let log = secure.process.log();
    assert!(!log.contains("PRIVATE KEY") && !log.contains("panicked"), "{log}");
}

/// The command of the guide that creates a test certificate.
fn certificate_for_a_try() -> String {
    let (_, after) = GUIDE.split_once("openssl req -x509").unwrap();
    let (line, _) = after.split_once("```").unwrap();
    format!("openssl req -x509{line}")
}

#[tokio::test]
async fn the_certificate_that_the_guide_creates_is_accepted() {
    let secure = Secure::start().await.unwrap();
    let folder = secure.folder.path();
    for (line, refusal) in [
        (
            "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -keyout tls.key -out tls.crt",
            Some("CA:FALSE"),
        ),
        (&certificate_for_a_try(), None),
    ] {
        let made = Command::new("/bin/sh").args(["-ec", line]).current_dir(folder).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        secure.process.hang_up().unwrap();
        eventually(WAIT, async || {
            let called = secure.run("key list --ca-file tls.crt", &secure.url("https"));
            let said = called.err().map(|error| error.to_string());
            ensure!(said.is_some() == refusal.is_some(), "{said:?}");
            ensure!(said.iter().all(|said| said.contains(refusal.unwrap_or_default())), "{said:?}");
            Ok(())
        })
        .await
        .unwrap();
    }
    let log = secure.process.log();
    assert!(log.contains("is a CA certificate") && log.contains("contains no server name"), "{log}");
}

#[tokio::test]
async fn whoever_asks_a_plain_server_for_a_renewal_does_not_end_it() {
    let (folder, port) = (tempfile::tempdir().unwrap(), Port::reserve().unwrap());
    let mut command = omf_command().unwrap();
    command.args(["serve", "--data-dir", "data", "--listen", &format!("127.0.0.1:{}", port.number())]);
    command.current_dir(folder.path());
    let process = Process::spawn("the control plane", &mut command, &folder.path().join("log")).unwrap();
    let said = async |what: &str| {
        let said = eventually(WAIT, async || {
            ensure!(process.log().contains(what), "{}", process.log_end(5));
            Ok(())
        });
        said.await.unwrap();
    };
    said("listening").await;
    process.hang_up().unwrap();
    said("TLS is not configured").await;
    assert!(process.stop(WAIT).unwrap().success());
}

#[tokio::test]
async fn a_server_without_free_files_goes_on_when_there_are_some() {
    let omf = omf_command().unwrap();
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", "ulimit -n 60; exec \"$0\" \"$@\""]).arg(omf.get_program());
    for (name, _) in omf.get_envs() {
        limited.env_remove(name);
    }
    let secure = Secure::start_as(limited).await.unwrap();
    // On a busy machine, a burst can be so spread out that the server keeps up with it: then another one follows.
    let burst = || -> Vec<_> {
        let connect = |_| std::net::TcpStream::connect(("127.0.0.1", secure.port.number())).unwrap();
        (0..100).map(connect).collect()
    };
    let mut connections = Vec::new();
    let deadline = Instant::now() + WAIT;
    while !secure.process.log().contains("accepting a connection failed") {
        assert!(Instant::now() < deadline, "not logged: {}", secure.process.log_end(5));
        connections.push(burst());
        // Older bursts end, so that this process has files left.
        connections.drain(..connections.len().saturating_sub(5));
        // Between two bursts, so that the server has the processor to itself for a moment.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(connections);
    eventually(WAIT, async || secure.omf("key list").map(drop)).await.unwrap();
}

/// The transport socket that operator.yaml has as a comment.
fn for_operators() -> Value {
    let text = fs::read_to_string(paths::configuration("operator.yaml")).unwrap();
    let (_, cluster) = text.split_once("    - name: omniflow_control_plane").unwrap();
    let comment = |line: &str| line.trim_start().strip_prefix("# ").map(str::to_owned);
    let lines: Vec<String> = cluster
        .lines()
        .skip_while(|line| !line.trim_start().starts_with("# transport_socket:"))
        .map_while(comment)
        .collect();
    bootstrap::parse(&lines.join("\n")).unwrap()
}

/// The same transport socket in the guide.
fn in_the_guide() -> Value {
    let (_, after) = GUIDE.split_once("```yaml\ntransport_socket:").unwrap();
    let (snippet, _) = after.split_once("```").unwrap();
    bootstrap::parse(&format!("transport_socket:{snippet}")).unwrap()
}

fn socket(ca_file: PathBuf) -> Value {
    let mut socket = for_operators()["transport_socket"].take();
    let tls = &mut socket["typed_config"];
    tls["sni"] = json!("localhost");
    let validation = &mut tls["common_tls_context"]["validation_context"];
    validation["trusted_ca"]["filename"] = json!(ca_file);
    validation["match_typed_subject_alt_names"][0]["matcher"]["exact"] = json!("localhost");
    socket
}

#[test]
fn operators_read_the_same_in_both_places() {
    assert_eq!(for_operators(), in_the_guide());
}

/// A separate Envoy that fetches its snapshot over TLS.
struct Gateway {
    secure: Secure,
    upstream: Upstream,
    envoy: Envoy,
    /// The secret of a key.
    key: String,
}

impl Gateway {
    /// Starts it with these changes to the cluster of the control plane.
    async fn start(change: impl FnOnce(&mut Value) + Send + 'static) -> Self {
        let secure = Secure::start().await.unwrap();
        let token = secure.omf("token create --name edge --role gateway").unwrap();
        let key = secure.omf("key create --name ci --environment live --scope contacts:read").unwrap();

        let ports = [Port::reserve().unwrap(), Port::reserve().unwrap(), Port::reserve().unwrap()];
        let [port, admin, live] = ports.each_ref().map(Port::number);
        let upstream = Upstream::start("live", live).unwrap();
        let socket = socket(secure.folder.path().join("ca.crt"));
        let options = EnvoyOptions {
            control_plane_port: secure.port.number(),
            live_port: live,
            gateway_token: Some(token),
            ..EnvoyOptions::new(secure.folder.path(), port, admin)
        };
        let options = options.edit(|config| {
            let clusters = config["static_resources"]["clusters"].as_array_mut().context("no clusters")?;
            let cluster = clusters.iter_mut().find(|cluster| cluster["name"] == "omniflow_control_plane");
            let cluster = cluster.context("no such cluster")?;
            cluster["transport_socket"] = socket;
            change(cluster);
            Ok(())
        });
        let envoy = Envoy::start(options).await.unwrap();
        Self { secure, upstream, envoy, key }
    }
}

/// Has a gateway take its snapshot over TLS, and a key revoked, with these changes to the cluster.
async fn gateway_over_tls(change: impl FnOnce(&mut Value) + Send + 'static) {
    let Gateway { secure, upstream, envoy, key } = Gateway::start(change).await;
    eventually(WAIT, || async {
        let response = envoy.call(contacts(&key)).await?;
        ensure!(response.status == 200, "{}: {}", response.status, envoy.process().log_end(5));
        Ok(())
    })
    .await
    .unwrap();
    assert!(upstream.received().iter().all(|request| request.path == CONTACTS));
    assert!(envoy.stat("cluster.omniflow_control_plane.ssl.handshake").await.unwrap() > 0);

    let revoked: Value =
        serde_json::from_str(&secure.omf("key revoke ci --wait 10s --json").unwrap()).unwrap();
    assert_eq!(revoked["enforcement"]["complete"], true, "{revoked}");
    assert_eq!(envoy.call(contacts(&key)).await.unwrap().status, 401);
    eventually(WAIT, async || {
        let audit = secure.omf("audit --key ci --json")?;
        ensure!(audit.contains("key_revoked"), "{audit}");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(envoy.call(Call::get(CONTACTS)).await.unwrap().status, 401);
}

/// How a cluster validates certificates.
fn validation(cluster: &mut Value) -> &mut Value {
    &mut cluster["transport_socket"]["typed_config"]["common_tls_context"]["validation_context"]
}

/// A certificate that Envoy rejects: the counter that names the reason.
async fn rejected(change: impl FnOnce(&mut Value) + Send + 'static, counter: &str) {
    let gateway = Gateway::start(change).await;
    eventually(WAIT, async || {
        let rejected = gateway.envoy.stat(&format!("cluster.omniflow_control_plane.ssl.{counter}")).await?;
        ensure!(rejected > 0, "{}", gateway.envoy.process().log_end(5));
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(gateway.envoy.call(contacts(&gateway.key)).await.unwrap().status, 503);
}

#[tokio::test]
async fn envoy_counts_rejected_certificates_by_reason() {
    rejected(
        |cluster| {
            let names = &mut validation(cluster)["match_typed_subject_alt_names"];
            names[0]["matcher"]["exact"] = json!("keys.example");
        },
        "fail_verify_san",
    )
    .await;
    let folder = tempfile::tempdir().unwrap();
    let stranger = Authority::new().publish(folder.path());
    rejected(
        move |cluster| validation(cluster)["trusted_ca"]["filename"] = json!(stranger),
        "fail_verify_error",
    )
    .await;
}

#[tokio::test]
async fn envoy_takes_its_snapshot_over_tls() {
    gateway_over_tls(|_| {}).await;
}

#[tokio::test]
async fn envoy_may_speak_http_2_over_tls_1_2() {
    gateway_over_tls(|cluster| {
        let context = &mut cluster["transport_socket"]["typed_config"]["common_tls_context"];
        context["tls_params"]["tls_maximum_protocol_version"] = json!("TLSv1_2");
        context["alpn_protocols"] = json!(["h2"]);
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}}
            }
        });
    })
    .await;
}

#[tokio::test]
async fn only_what_is_modern_is_spoken() {
    let secure = Secure::start().await.unwrap();
    let shake = |options: &str| {
        let mut openssl = Command::new("openssl");
        let address = format!("localhost:{}", secure.port.number());
        openssl.args(["s_client", "-connect", &address, "-alpn", "h2,http/1.1"]);
        openssl.args(options.split(' ')).stdin(std::process::Stdio::null());
        let output = openssl.output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    for (options, version) in [("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")] {
        let (spoken, text) = shake(options);
        assert!(spoken && text.contains(version) && text.contains("ALPN protocol: h2"), "{options}: {text}");
        assert!(text.contains("Compression: NONE"), "{text}");
        assert!(!text.contains("Max Early Data: 1"), "{text}");
    }
    // Older versions, and ciphers without forward secrecy or without authenticated encryption.
    for options in [
        "-tls1_1 -cipher DEFAULT@SECLEVEL=0",
        "-tls1_2 -cipher AES128-GCM-SHA256",
        "-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA256",
    ] {
        let (spoken, text) = shake(options);
        assert!(!spoken && text.contains("alert"), "{options}: {text}");
    }
}
