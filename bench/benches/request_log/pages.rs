//! How long pages of the console take, from the first byte of the request to the last of the response.

use std::time::{Duration, Instant};

use anyhow::Result;
use axum::http::StatusCode;
use omniflow_domain::time::{DAY_MS, format_time};
use omniflow_policy::time::UnixMillis;
use omniflow_store_sqlite::fixtures;
use omniflow_test_server::{START, TestServer};
use serde_json::json;

use crate::browser::Browser;
use crate::report::{Report, Timings};

/// How often each page is read.
const RUNS: u64 = 60;
/// Maximum p95 duration of a page.
const MAX_PAGE: Duration = Duration::from_millis(200);

/// The path of a page in each run, so that runs can request different pages.
type PathOfRun = Box<dyn Fn(u64) -> String>;

/// Pages of an audit log with `size` records.
pub(crate) async fn measure_audit(report: &mut Report, size: u64) -> Result<()> {
    let server = TestServer::new().await;
    let count = i64::try_from(size)?;
    let server = server.refilled(async |store| fixtures::records(store, count).await).await;
    let browser = Browser::sign_in(&server).await?;
    for (what, path) in audit_pages(size) {
        measure(report, &browser, what, path).await?;
    }
    Ok(())
}

fn audit_pages(size: u64) -> Vec<(&'static str, PathOfRun)> {
    let time = |millis: u64| format_time(UnixMillis(millis));
    let fixed = |query: &'static str| -> PathOfRun { Box::new(move |_| format!("/audit{query}")) };
    vec![
        ("all", fixed("")),
        (
            "all, another day each time",
            Box::new(move |run| {
                let to = START - run * DAY_MS;
                format!("/audit?from={}&to={}", time(to - DAY_MS), time(to))
            }),
        ),
        ("30 days", Box::new(move |run| format!("/audit?from={}", time(START - 30 * DAY_MS - run)))),
        (
            "deep in the list",
            Box::new(move |run| format!("/audit?cursor={}-{}", START - run * DAY_MS, i64::MAX)),
        ),
        ("one key of 200", fixed("?key=30303030-3030-3030-3030-303030303031")),
        ("the key of a tenth of all calls", fixed("?key=key-0")),
        ("a key and a status that it has", fixed("?key=key-0&status=5xx")),
        ("a key and a method that it has not", fixed("?key=key-0&method=PUT")),
        ("a status", fixed("?status=404")),
        ("a class of statuses", fixed("?status=5xx")),
        ("a class without calls", fixed("?status=3xx")),
        ("a method without calls", fixed("?method=PUT")),
        ("refused calls, of which there are none", fixed("?decision=denied")),
        ("an environment without calls", fixed("?environment=test")),
        ("an endpoint", fixed("?endpoint=/api/v1/contacts/%7Bid%7D")),
        ("a network", fixed("?ip=3030:3030:3030:3030:3030:3030:3030:3100/120")),
        ("a wide network without calls", fixed("?ip=10.0.0.0/8")),
        ("a record", Box::new(move |run| format!("/audit/{}", 1 + run * 100_003 % size))),
    ]
}

/// Lists of an installation with `size` keys.
pub(crate) async fn measure_keys(report: &mut Report, size: u64) -> Result<()> {
    let server = TestServer::new().await;
    let count = i64::try_from(size)?;
    let server = server.refilled(async |store| fixtures::keys(store, count).await).await;
    let fields = json!({"name": "last", "environment": "test", "scopes": ["tickets:read"]});
    server.post("/v1/keys", fields).await.expect(StatusCode::CREATED);
    let browser = Browser::sign_in(&server).await?;
    for path in [
        "/keys",
        "/keys?q=key-99",
        "/keys?q=nothing-is-called-so",
        "/keys?environment=test",
        "/keys?scope=tickets:read",
        "/keys?status=revoked",
        "/keys?status=rotating",
        "/keys?attention=unused",
        "/keys?attention=due",
        "/keys?attention=expiring",
        "/admin-log",
        "/admin-log?action=token.revoked",
        "/policy",
        "/gateways",
        "/anomalies",
    ] {
        measure(report, &browser, path, |_| path.to_owned()).await?;
    }
    Ok(())
}

async fn measure(
    report: &mut Report,
    browser: &Browser<'_>,
    what: &str,
    path: impl Fn(u64) -> String,
) -> Result<()> {
    let (mut durations, mut bytes) = (Vec::new(), 0);
    for run in 0..RUNS {
        let path = path(run);
        let began = Instant::now();
        bytes = browser.read(&path).await?;
        durations.push(began.elapsed());
    }
    let timings = Timings::new(durations);
    let is_met = timings.percentile(95) <= MAX_PAGE;
    report.check(what, format!("{timings}, {bytes} bytes"), &format!("p95 {MAX_PAGE:?}"), is_met);
    Ok(())
}
