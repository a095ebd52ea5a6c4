//! A call can be found as a record, in an export, and in statistics.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use anyhow::ensure;
use omniflow_harness::{Stack, StackOptions, eventually, omf_command};
use serde_json::{Value, json};

use crate::support::contacts;

const WAIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_tail_shows_calls_over_a_restart_and_the_counts_are_true() {
    let mut stack = Stack::start(StackOptions::default()).await.unwrap();
    let key = stack.live_key("watched", &["contacts:read"]).await.unwrap();
    let mut command = omf_command().unwrap();
    command
        .args(["audit", "tail", "--json", "--count", "4", "--after", "0", "--key", "watched"])
        .env("OMF_URL", format!("http://127.0.0.1:{}", stack.control_plane.port()))
        .env("OMF_TOKEN_FILE", stack.control_plane.folder().join("admin-token"))
        .stdout(Stdio::piped());
    let mut tail = command.spawn().unwrap();
    let lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let reading = tokio::task::spawn_blocking(move || {
        lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect::<Vec<Value>>()
    });

    for status in ["200", "404"] {
        stack.call(contacts(&key.secret).header("x-echo-status", status)).await.unwrap();
    }
    let recorded = async |stack: &Stack, count: usize| {
        eventually(WAIT, || async {
            let records = stack.control_plane.audit("key=watched").await?;
            ensure!(records.len() == count, "{} records", records.len());
            Ok(records)
        })
        .await
        .unwrap()
    };
    recorded(&stack, 2).await;
    stack.control_plane.process().kill().unwrap();
    stack.control_plane.restart().await.unwrap();
    for status in ["503", "200"] {
        stack.call(contacts(&key.secret).header("x-echo-status", status)).await.unwrap();
    }
    let mut records = recorded(&stack, 4).await;
    records.sort_by_key(|record| record["id"].as_str().unwrap().parse::<u64>().unwrap());
    assert_eq!(reading.await.unwrap(), records, "each once");
    assert!(tail.wait().unwrap().success());

    let stats = stack.control_plane.get("/v1/audit/stats?by=key").await.unwrap();
    assert_eq!(
        (&stats["groups"][0]["group"], &stats["groups"][0]["key_name"]),
        (&json!([key.id]), &json!("watched"))
    );
    let counts = &stats["groups"][0]["counts"];
    for (name, expected) in [("calls", 4), ("client_errors", 1), ("server_errors", 1)] {
        assert_eq!(counts[name], expected, "{name}: {stats}");
    }
    let mut latencies: Vec<u64> =
        records.iter().map(|record| record["latency_us"].as_u64().unwrap()).collect();
    latencies.sort_unstable();
    let (reported, exact) = (counts["latency_us"]["p50"].as_u64().unwrap(), latencies[1]);
    assert!(reported <= exact && reported * 100 >= exact * 99, "{reported} of {latencies:?}");
}
