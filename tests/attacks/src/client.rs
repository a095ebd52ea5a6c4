//! A client with another key. None of its calls, records and arguments may be lost.

use std::time::Duration;

use anyhow::{Result, ensure};
use omniflow_harness::control_plane::NewKey;
use omniflow_harness::{Call, Connection, Stack, eventually};
use serde_json::json;
use tokio::time::{Instant, interval};

/// Time between two calls.
const PERIOD: Duration = Duration::from_millis(50);
/// How long records may take to arrive after the attack.
const ARRIVAL: Duration = Duration::from_secs(30);
/// Records whose arguments are read.
const SAMPLE: usize = 100;

/// What happened to the calls.
#[derive(Debug, Default)]
pub(crate) struct Served {
    /// All calls that were answered.
    pub(crate) calls: u64,
    /// Those with another status than 200, and those that were not answered.
    pub(crate) failed: u64,
    /// Calls without a record.
    pub(crate) lost_records: u64,
    /// Of the newest 100 calls, those whose arguments were dropped.
    pub(crate) dropped_arguments: u64,
}

/// Makes calls until this instant.
pub(crate) async fn call_steadily(port: u16, key: &NewKey, until: Instant) -> Served {
    let mut served = Served::default();
    let mut pace = interval(PERIOD);
    let mut connection = None;
    let fields = json!({"name": "someone"});
    while Instant::now() < until {
        pace.tick().await;
        let mut open: Connection = match connection.take() {
            Some(open) => open,
            None => match Connection::http1(port).await {
                Ok(open) => open,
                Err(_) => {
                    served.failed += 1;
                    continue;
                }
            },
        };
        let call = Call::post("/api/v1/contacts", &fields).header("x-api-key", &key.secret);
        match open.call(call).await {
            Ok(response) => {
                served.calls += 1;
                served.failed += u64::from(response.status != 200);
                connection = Some(open);
            }
            Err(_) => served.failed += 1,
        }
    }
    served
}

/// Counts what is missing in the log.
pub(crate) async fn examine(stack: &Stack, key: &NewKey, served: &mut Served) -> Result<()> {
    let path = format!("/v1/audit/stats?key={}", key.id);
    let recorded = async || -> Result<u64> {
        let stats = stack.control_plane.get(&path).await?;
        Ok(stats["total"]["calls"].as_u64().unwrap_or_default())
    };
    let arrived = eventually(ARRIVAL, || async {
        let recorded = recorded().await?;
        ensure!(recorded >= served.calls, "{recorded} records");
        Ok(())
    });
    let _ = arrived.await;
    served.lost_records = served.calls.saturating_sub(recorded().await?);
    let auditor = stack.control_plane.create_token("reader", "auditor").await?;
    let page = stack.control_plane.get(&format!("/v1/audit?key={}&limit={SAMPLE}", key.id)).await?;
    for record in page["items"].as_array().into_iter().flatten() {
        let id = record["id"].as_str().unwrap_or_default();
        let is_whole = match record["has_payload"].as_bool() {
            Some(true) => {
                let path = format!("/v1/audit/{id}/payload");
                let response = stack.control_plane.call(Call::get(&path).bearer(&auditor)).await?;
                ensure!(response.status == 200, "{path}: {}", response.status);
                response.json()?["state"] == "whole"
            }
            _ => false,
        };
        served.dropped_arguments += u64::from(!is_whole);
    }
    Ok(())
}
