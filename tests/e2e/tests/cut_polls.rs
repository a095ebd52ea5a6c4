//! A proxy between gateway and control plane that ends connections on which nothing is sent, as many do after 15 s or more.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use omniflow_harness::{Call, Stack, StackOptions, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{CONTACTS, omf, run};

/// The proxy's timeout: shorter than the usual ones, so that the test is short.
const CUT: Duration = Duration::from_secs(4);
/// The least that the filter accepts. Without a confirmation within it, every call is refused.
const MAX_AGE: u64 = 30;
/// The port of the control plane in Envoy's configuration.
const PORT: &str = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/port_value";

/// Passes bytes on until nothing has been sent for [`CUT`].
async fn pass(mut client: TcpStream, port: u16) -> Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut from_client, mut from_server) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        let next = async {
            tokio::select! {
                read = client.read(&mut from_client) => read.map(|read| (read, true)),
                read = server.read(&mut from_server) => read.map(|read| (read, false)),
            }
        };
        let (read, is_request) = tokio::time::timeout(CUT, next).await.context("cut")??;
        ensure!(read > 0, "closed");
        match is_request {
            true => server.write_all(&from_client[..read]).await?,
            false => client.write_all(&from_server[..read]).await?,
        }
    }
}

/// Puts the proxy in front of the control plane.
fn through_proxy(config: &mut Value, proxy: std::net::TcpListener) -> Result<()> {
    let clusters = config.pointer_mut("/static_resources/clusters").and_then(Value::as_array_mut);
    let mut clusters = clusters.context("no clusters")?.iter_mut();
    let cluster =
        clusters.find(|cluster| cluster["name"] == "omniflow_control_plane").context("no cluster")?;
    let port = cluster.pointer_mut(PORT).context("no port")?;
    let control_plane: u16 = port.to_string().trim_matches('"').parse()?;
    *port = json!(proxy.local_addr()?.port());
    proxy.set_nonblocking(true)?;
    let proxy = TcpListener::from_std(proxy)?;
    tokio::spawn(async move {
        while let Ok((client, _)) = proxy.accept().await {
            tokio::spawn(pass(client, control_plane));
        }
    });
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_that_a_proxy_cuts_cost_no_call_and_no_time() -> Result<()> {
    let proxy = std::net::TcpListener::bind("127.0.0.1:0")?;
    let options = StackOptions::workers(2)
        .plugin("max_snapshot_age_seconds", MAX_AGE)
        .edit(move |config| through_proxy(config, proxy));
    let stack = Stack::start(options).await?;
    let started = Instant::now();
    let key = stack.live_key("ci", &["contacts:read"]).await?;
    let mut pace = tokio::time::interval(Duration::from_millis(800));
    while started.elapsed() < Duration::from_secs(MAX_AGE + 5) {
        pace.tick().await;
        let response = stack.call(Call::get(CONTACTS).header("x-api-key", &key.secret)).await?;
        ensure!(response.status == 200, "{} after {:?}", response.status, started.elapsed());
    }
    eventually(Duration::from_secs(30), async || {
        let metrics = stack.control_plane.call(Call::get("/metrics")).await?.text();
        ensure!(
            metrics.contains("\nomf_gateways_with_cut_polls 1\n"),
            "no gateway reports that its polls are cut"
        );
        Ok(())
    })
    .await?;
    let began = Instant::now();
    let mut revoke = omf(&stack);
    revoke.args(["key", "revoke", "ci", "--wait", "10s"]);
    let output = run(revoke).await;
    ensure!(output.status.success(), "{output:?}");
    ensure!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let mut doctor = omf(&stack);
    doctor.arg("doctor");
    let report = String::from_utf8(run(doctor).await.stdout)?;
    ensure!(report.contains("cuts off the polls of 1 gateway after 4 s"), "{report}");
    Ok(())
}
