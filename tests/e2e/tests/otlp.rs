//! Every record reaches a collector, whatever is unavailable in the meantime.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use anyhow::ensure;
use omniflow_harness::client::DEADLINE;
use omniflow_harness::ports::Port;
use omniflow_harness::{Call, Stack, StackOptions, eventually};
use serde_json::{Value, json};

use crate::collector::{Collector, Taken, attribute};
use crate::load::Load;
use crate::support::contacts;

const WAIT: Duration = Duration::from_secs(90);

/// The numbers of all records in the log, and their request ids.
async fn recorded(stack: &Stack) -> HashMap<String, String> {
    let export = Call::get("/v1/audit/export").within(DEADLINE * 3);
    let export = stack.control_plane.expect(200, export).await.unwrap().text();
    let records = export.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    records.map(|record| (text(&record["id"]), text(&record["request_id"]))).collect()
}

fn numbers(taken: &Taken) -> BTreeSet<String> {
    taken.all().iter().filter_map(|log| attribute(log, "omniflow.record.id")).collect()
}

async fn has_more_than(taken: &Taken, records: usize) {
    eventually(WAIT, || async {
        let there = numbers(taken).len();
        ensure!(there > records, "{there} records");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_arrives_whoever_is_away() {
    let port = Port::reserve().unwrap();
    let mut options = StackOptions::workers(2);
    let endpoint = format!("http://127.0.0.1:{}/v1/logs", port.number());
    options.control_plane_arguments = vec!["--otlp-endpoint".to_owned(), endpoint];
    let mut stack = Stack::start(options).await.unwrap();
    let fields = json!({"name": "busy", "environment": "live", "scopes": ["contacts:read"],
        "rate_limit": {"per_minute": 1_000_000}});
    let secret = stack.key(fields).await.unwrap().secret;
    let load = Load::start(stack.envoy.port(), 8, 500, &contacts(&secret));
    let strangers = Load::start(stack.envoy.port(), 2, 100, &Call::get("/"));

    // Nobody takes anything at first.
    eventually(WAIT, || async {
        let metrics = stack.control_plane.call(Call::get("/metrics")).await?.text();
        let failed =
            metrics.lines().any(|line| line.starts_with("omf_otlp_failures_total ") && !line.ends_with(" 0"));
        ensure!(failed, "{metrics}");
        Ok(())
    })
    .await
    .unwrap();
    let taken = Taken::default();
    let mut collector = Collector::start(port.number(), &taken).await;
    for _ in 0..2 {
        has_more_than(&taken, numbers(&taken).len() + 500).await;
        stack.control_plane.process().kill().unwrap();
        stack.control_plane.restart().await.unwrap();
        has_more_than(&taken, numbers(&taken).len()).await;
        collector.stop().await;
        collector = Collector::start(port.number(), &taken).await;
    }
    let (done, refused) = (load.stop().await, strangers.stop().await);
    eventually(WAIT, || async {
        let counted = stack.envoy.stat("http.ingress.downstream_rq_total").await?;
        let stats = stack.control_plane.get("/v1/audit/stats").await?;
        ensure!(
            stats["total"]["calls"] == counted,
            "{counted} requests, {} in the log",
            stats["total"]["calls"]
        );
        Ok(())
    })
    .await
    .unwrap();
    let recorded = recorded(&stack).await;
    let expected: BTreeSet<String> = recorded.keys().cloned().collect();
    eventually(WAIT, || async {
        let missing = expected.difference(&numbers(&taken)).count();
        ensure!(missing == 0, "{missing} of {} have not come", expected.len());
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(numbers(&taken), expected, "nothing else came");

    // Duplicates are recognized by their ID, and the log by its content.
    let mut names = HashMap::new();
    let mut calls = 0;
    for log in taken.all() {
        let id = attribute(&log, "omniflow.record.id").unwrap();
        assert_eq!(attribute(&log, "omniflow.request_id").unwrap_or_default(), recorded[&id]);
        let name = attribute(&log, "log.record.uid").unwrap();
        let aggregated =
            attribute(&log, "omniflow.aggregated_calls").map_or(1, |calls| calls.parse().unwrap());
        match names.insert(id, name.clone()) {
            Some(before) => assert_eq!(before, name),
            None => calls += aggregated,
        }
    }
    assert_eq!(names.values().collect::<BTreeSet<_>>().len(), names.len());
    assert_eq!(calls, done.answered + refused.answered);
    println!(
        "{} records of {calls} calls, {} of them sent again",
        names.len(),
        taken.all().len() - names.len()
    );
}
