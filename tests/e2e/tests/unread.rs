//! Clients that do not read their responses, and so keep them in Envoy's memory.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::ensure;
use omniflow_harness::{Stack, StackOptions, eventually};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const CONNECTIONS: usize = 20;
/// As many as one connection may have.
const STREAMS: u32 = 100;
/// Well below Envoy's default of 300 seconds for a stream on which nothing moves.
const SHIPPED: Duration = Duration::from_secs(30);
const ACTIVE: &str = "http.ingress.downstream_rq_active";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HTTP/2 requests without a key, by a client that has room for no byte of a response body (RFC 9113, 6.5.2).
fn requests_with_a_closed_window() -> Vec<u8> {
    const SETTINGS: u8 = 4;
    const HEADERS: u8 = 1;
    const END_STREAM_AND_HEADERS: u8 = 5;
    const INITIAL_WINDOW_SIZE_0: &[u8] = &[0, 4, 0, 0, 0, 0];
    // GET, http, / and the authority "a" (RFC 7541, appendix A).
    const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, INITIAL_WINDOW_SIZE_0));
    for n in 0..STREAMS {
        bytes.extend(frame(HEADERS, END_STREAM_AND_HEADERS, 2 * n + 1, GET));
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_clients_that_do_not_read_are_cut_off() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, stack.envoy.port())).await.unwrap();
        stream.write_all(&requests_with_a_closed_window()).await.unwrap();
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
