//! Clients that do not read their responses, and so keep them in Envoy's memory.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::ensure;
use omniflow_harness::{Stack, StackOptions, client, eventually};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const CONNECTIONS: usize = 20;
/// As many as one connection may have.
const STREAMS: u32 = 100;
/// Well below Envoy's default of 300 seconds for a stream on which nothing moves.
const SHIPPED: Duration = Duration::from_secs(30);
const ACTIVE: &str = "http.ingress.downstream_rq_active";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_clients_that_do_not_read_are_cut_off() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, stack.envoy.port())).await.unwrap();
        stream.write_all(&client::requests_with_a_closed_window(STREAMS)).await.unwrap();
        held.push(stream);
    }
    let all = CONNECTIONS as u64 * u64::from(STREAMS);
    eventually(Duration::from_secs(8), || async {
        let active = stack.envoy.stat(ACTIVE).await?;
        ensure!(active >= all, "{active} of {all} streams wait");
        Ok(())
    })
    .await
    .unwrap();
    eventually(SHIPPED, || async {
        let active = stack.envoy.stat(ACTIVE).await?;
        ensure!(active == 0, "{active} of {all} streams still wait");
        Ok(())
    })
    .await
    .unwrap();
}
