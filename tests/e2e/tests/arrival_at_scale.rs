//! Under load, and with a control plane that is killed repeatedly, no record is lost or duplicated.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use omniflow_harness::client::DEADLINE;
use omniflow_harness::{Call, Stack, StackOptions, eventually};
use serde_json::{Value, json};

use crate::load::Load;
use crate::support::contacts;

/// Until everything has arrived: the longest pause between two attempts of a VM is five seconds.
const WAIT: Duration = Duration::from_secs(120);
const CLIENTS: u32 = 32;

/// The intensity of the test.
struct Trial {
    rate: u32,
    kills: u32,
    /// From one kill to the next.
    every: Duration,
}

impl Trial {
    async fn run(self) {
        // Envoy itself responds, so that its workers have the machine to themselves.
        let options = StackOptions::workers(2).edit(|config| {
            let routes = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes";
            let routes = config.pointer_mut(routes).context("no routes")?;
            *routes = json!([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]);
            Ok(())
        });
        let mut stack = Stack::start(options).await.unwrap();
        let fields = json!({"name": "busy", "environment": "live", "scopes": ["contacts:read"],
            "rate_limit": {"per_minute": 1_000_000}});
        let secret = stack.key(fields).await.unwrap().secret;

        let load = Load::start(stack.envoy.port(), CLIENTS, self.rate, &contacts(&secret));
        // Refusals of a client without a key, so that some are aggregated.
        let strangers = Load::start(stack.envoy.port(), 2, 100, &Call::get("/"));
        let mut clock = tokio::time::interval(self.every);
        clock.tick().await;
        for _ in 0..self.kills {
            // Not to wait for anything: this is how often it is killed.
            clock.tick().await;
            stack.control_plane.process().kill().unwrap();
            stack.control_plane.restart().await.unwrap();
        }
        clock.tick().await;
        let (done, refused) = (load.stop().await, strangers.stop().await);

        let counted = eventually(WAIT, || async {
            let counted = stack.envoy.stat("http.ingress.downstream_rq_total").await?;
            let stats = stack.control_plane.get("/v1/audit/stats").await?;
            let reported = stats["total"]["calls"].as_u64().context("no total")?;
            ensure!(reported == counted, "{counted} requests, {reported} in the log");
            Ok(counted)
        })
        .await
        .unwrap();
        println!(
            "{:.0} calls a second for {:.1?}, control plane killed {} times: {counted} requests by Envoy's count, all reported",
            done.rate(),
            done.took,
            self.kills
        );
        assert_eq!(counted, done.answered + refused.answered, "what Envoy has counted is what was answered");
        assert_eq!(missing(&stack).await, 0);
        each_once(&stack, counted).await;
    }
}

/// Calls that the log reports as lost.
async fn missing(stack: &Stack) -> u64 {
    let gaps = stack.control_plane.list("/v1/audit/gaps").await.unwrap();
    gaps.iter().filter_map(|gap| gap["missing"].as_u64()).sum()
}

/// Each record is another request.
async fn each_once(stack: &Stack, counted: u64) {
    let export = Call::get("/v1/audit/export").within(DEADLINE * 12);
    let export = stack.control_plane.expect(200, export).await.unwrap().text();
    let (mut requests, mut calls, mut records) = (HashSet::new(), 0, 0);
    for line in export.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        calls += record["aggregated_calls"].as_u64().unwrap_or(1);
        if record["aggregated_calls"].is_null() {
            records += 1;
            requests.insert(record["request_id"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!((requests.len(), calls), (records, counted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_twice_while_the_control_plane_is_killed() {
    Trial { rate: 1_000, kills: 2, every: Duration::from_millis(2_500) }.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes the whole machine for a minute and a half"]
async fn nothing_is_lost_or_twice_in_a_minute_of_full_load_and_ten_kills() {
    Trial { rate: 5_000, kills: 10, every: Duration::from_millis(5_500) }.run().await;
}
