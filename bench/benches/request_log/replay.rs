//! How long the replay of a draft of the policy takes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use axum::http::StatusCode;
use omniflow_store_sqlite::fixtures;
use omniflow_test_server::TestServer;
use serde_json::{Value, json};

use crate::report::{Report, Timings};

const RUNS: usize = 10;
/// Maximum duration of the replay of 100,000 calls.
const MAX_REPLAY: Duration = Duration::from_secs(2);

/// Replays `size` calls of 200 keys.
pub(crate) async fn measure(report: &mut Report, size: u64) -> Result<()> {
    let server = TestServer::new().await;
    let count = i64::try_from(size)?;
    let server = server
        .refilled(async |store| {
            fixtures::keys(store, 200).await;
            fixtures::records(store, count).await;
        })
        .await;
    let mut draft: Value = server.get("/v1/policy").await.expect(StatusCode::OK)["document"].take();
    for route in draft["routes"].as_array_mut().context("the policy has no routes")? {
        if route["path"].as_str().is_some_and(|path| path.starts_with("/api/v1/contacts")) {
            route["scope"] = json!("agents:read");
        }
    }
    let mut durations = Vec::new();
    for _ in 0..RUNS {
        let began = Instant::now();
        let answer = server.post("/v1/policy/replay", draft.clone()).await.expect(StatusCode::OK);
        durations.push(began.elapsed());
        ensure!(answer["calls"] == size, "not all calls were replayed: {answer}");
    }
    let timings = Timings::new(durations);
    let is_met = timings.percentile(50) <= MAX_REPLAY;
    report.check(&format!("replay of {size} calls"), timings, &format!("p50 {MAX_REPLAY:?}"), is_met);
    Ok(())
}
