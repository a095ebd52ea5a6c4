//! How long pages take with 10 million records and 100,000 keys, from the first byte of the request to the last of the
//! answer, without the network.

use std::time::{Duration, Instant};

use omniflow_policy::time::UnixMillis;
use serde_json::json;

use super::testing::Browser;
use omf::testing::{START, TestServer};
use omniflow_domain::time::format_time;
use omniflow_store_sqlite::fixtures;

/// How often each page is asked for.
const RUNS: usize = 60;
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// The 95th percentile, and the longest.
async fn measure(browser: &mut Browser<'_>, what: &str, path: impl Fn(u64) -> String) -> Duration {
    let mut times = Vec::new();
    for run in 0..RUNS as u64 {
        let path = path(run);
        let started = Instant::now();
        let page = browser.page(&path).await;
        times.push((started.elapsed(), page.len()));
    }
    times.sort_unstable();
    let [half, most, all] = [RUNS / 2, RUNS * 95 / 100, RUNS - 1].map(|place| times[place].0);
    println!("{what}: 50% {half:?}, 95% {most:?}, 100% {all:?}, {} bytes", times[0].1);
    most
}

/// `cargo test --release -p omniflow-console --lib measured -- --ignored --nocapture`
/// The address of a page in each run, so that no two runs ask the same.
type PathOfRun = Box<dyn Fn(u64) -> String>;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes and 6 GB; it measures"]
async fn audit_pages_with_ten_million_records() {
    let plane = TestServer::new().await;
    let count: i64 = std::env::var("OMF_TEST_RECORDS").map_or(10_000_000, |text| text.parse().unwrap());
    let plane = plane.refilled(async |store| fixtures::records(store, count).await).await;
    let mut browser = Browser::signed_in(&plane, &plane.owner).await;
    let time = |millis: u64| format_time(UnixMillis(millis));
    let key = uuid::Uuid::from_slice(b"0000000000000001").unwrap();
    let network = "3030:3030:3030:3030:3030:3030:3030:3100/120";
    let mut slow = Vec::new();
    let pages: Vec<(&str, PathOfRun)> = vec![
        ("all", Box::new(|_| "/audit".to_owned())),
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
        ("one key of 200", Box::new(move |_| format!("/audit?key={key}"))),
        ("the key of a tenth of all calls", Box::new(|_| "/audit?key=key-0".to_owned())),
        ("a key and a status that it has", Box::new(|_| "/audit?key=key-0&status=5xx".to_owned())),
        ("a key and a method that it has not", Box::new(|_| "/audit?key=key-0&method=PUT".to_owned())),
        ("a status", Box::new(|_| "/audit?status=404".to_owned())),
        ("a class of statuses", Box::new(|_| "/audit?status=5xx".to_owned())),
        ("a class that there is not", Box::new(|_| "/audit?status=3xx".to_owned())),
        ("a method that there is not", Box::new(|_| "/audit?method=PUT".to_owned())),
        ("refused calls, of which there are none", Box::new(|_| "/audit?decision=denied".to_owned())),
        ("an environment that there is not", Box::new(|_| "/audit?environment=test".to_owned())),
        ("an endpoint", Box::new(|_| "/audit?endpoint=/api/v1/contacts/%7Bid%7D".to_owned())),
        ("a network", Box::new(move |_| format!("/audit?ip={network}"))),
        ("a wide network that has none", Box::new(|_| "/audit?ip=10.0.0.0/8".to_owned())),
        ("a record", Box::new(|run| format!("/audit/{}", 1 + run * 100_003 % 9_000_000))),
    ];
    for (what, path) in &pages {
        let most = measure(&mut browser, what, path).await;
        if most > Duration::from_millis(200) {
            slow.push(*what);
        }
    }
    assert!(slow.is_empty(), "more than 200 ms: {slow:?}");
}

/// The same, with keys that the API has issued.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; it measures"]
async fn list_pages_with_a_hundred_thousand_keys() {
    let plane = TestServer::new().await;
    let count: i64 = std::env::var("OMF_TEST_KEYS").map_or(100_000, |text| text.parse().unwrap());
    let plane = plane.refilled(async |store| fixtures::keys(store, count).await).await;
    plane.app.publisher.build_image().await.unwrap();
    plane.post("/v1/keys", json!({"name": "last", "environment": "test", "scopes": ["tickets:read"]})).await;
    let mut browser = Browser::signed_in(&plane, &plane.owner).await;
    let mut slow = Vec::new();
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
        let most = measure(&mut browser, path, |_| path.to_owned()).await;
        if most > Duration::from_millis(200) {
            slow.push(path);
        }
    }
    assert!(slow.is_empty(), "more than 200 ms: {slow:?}");
}
