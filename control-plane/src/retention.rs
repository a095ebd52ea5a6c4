//! What is purged when it is old enough: the arguments of calls, audit records, the gaps between them, and what was found in
//! them. When a key was last used stays, and so does the admins' trail.
//!
//! Each piece is a transaction of its own, and after it the task rests for as long as the piece took, so that gateways
//! that deliver records find the writer free at least half of the time, and never wait for more than a piece.

use std::time::Duration;

use omniflow_policy::time::UnixMillis;
use tokio::time::{Instant, sleep};

use crate::app::App;
use crate::storage::{Pages, StorageError};
use crate::vault::DATA_KEY_TIME;

/// How often what has grown old is looked for.
const PAUSE: Duration = Duration::from_secs(60);
/// Rows in one transaction.
const ROWS_AT_ONCE: usize = 200;
/// Payloads in one transaction: the longest have 64 pages.
const PAYLOADS_AT_ONCE: usize = 20;
/// For how long a gateway that holds nothing is remembered.
const SETTLED_KEPT: Duration = Duration::from_secs(86_400);
/// For how many times the retention of records the place of a gateway that is gone is known, so that what it delivers again
/// counts once. One that is there keeps its place though it has no calls.
const STREAMS_KEPT: u32 = 2;
/// Runs of gateways' processes whose places go in one transaction. Each has a row for each worker.
const STREAMS_AT_ONCE: usize = 20;
/// Pages that are given back in one transaction.
const PAGES_AT_ONCE: u32 = 64;
/// Free pages that stay in the file whatever its size: 1 MiB.
const SPARE_PAGES: u64 = 256;

/// Purges until the process is asked to end.
pub(crate) async fn keep_retention(app: &App) {
    let until_stopped = async {
        loop {
            if let Err(error) = purge(app).await {
                tracing::warn!(%error, "old audit records cannot be purged; trying again in a minute");
            }
            // Records grow old by the day; nothing waits for this task.
            sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = until_stopped => {}
        () = app.stopped() => {}
    }
}

/// Purges all that is old by now, and makes the file smaller where that left much of it empty.
pub(crate) async fn purge(app: &App) -> Result<(), StorageError> {
    let start_of = |kept: Duration| {
        UnixMillis(app.now().0.saturating_sub(u64::try_from(kept.as_millis()).unwrap_or(u64::MAX)))
    };
    let audit = &app.storage.audit;
    let mut purged = purge_payloads(app, start_of(app.payload_retention)).await?;
    let before = start_of(app.audit_retention);
    loop {
        let started = Instant::now();
        let records = audit.purge_records(before, ROWS_AT_ONCE).await?;
        let gaps = audit.purge_gaps(before, ROWS_AT_ONCE).await?;
        let gateways = audit.purge_gateways(before, start_of(SETTLED_KEPT), ROWS_AT_ONCE).await?;
        let patterns = audit.purge_patterns(before, app.now(), ROWS_AT_ONCE).await?;
        purged += records;
        if records == 0 && gaps == 0 && gateways == 0 && patterns == 0 {
            break;
        }
        // The gateways' half of the time.
        sleep(started.elapsed()).await;
    }
    forget_streams(app, start_of(app.audit_retention.saturating_mul(STREAMS_KEPT))).await?;
    if purged > 0 {
        tracing::info!(purged, "old audit records and payloads are purged");
        give_back(app).await?;
    }
    Ok(())
}

/// Purges the arguments of calls that began before `before`, and the keys that nothing needs any longer.
async fn purge_payloads(app: &App, before: UnixMillis) -> Result<u64, StorageError> {
    let audit = &app.storage.audit;
    let mut purged = 0;
    loop {
        let started = Instant::now();
        let payloads = audit.purge_payloads(before, PAYLOADS_AT_ONCE).await?;
        purged += payloads;
        if payloads == 0 {
            break;
        }
        // As above: half of the time is the gateways'.
        sleep(started.elapsed()).await;
    }
    // A data key seals for a day, and what it seals began at most a little later than the gateways' clocks may be ahead.
    let unused = UnixMillis(before.0.saturating_sub(2 * DATA_KEY_TIME));
    audit.purge_data_keys(unused).await?;
    Ok(purged)
}

/// Forgets how far the records of gateways had come that are gone and have had no call since `before`. Each start of a
/// gateway's process has places of its own, so they grew without end.
async fn forget_streams(app: &App, before: UnixMillis) -> Result<(), StorageError> {
    let audit = &app.storage.audit;
    let mut gone = audit.quiet_streams(before).await?;
    gone.retain(|run| !app.fleet.remembers(run));
    for runs in gone.chunks(STREAMS_AT_ONCE) {
        let started = Instant::now();
        audit.forget_streams(runs, before).await?;
        // As above: half of the time is the gateways'.
        sleep(started.elapsed()).await;
    }
    Ok(())
}

/// Gives free pages back, except those that the records of the next days will take again.
async fn give_back(app: &App) -> Result<(), StorageError> {
    let audit = &app.storage.audit;
    let mut pages = audit.pages().await?;
    while has_too_many_free(pages) {
        let started = Instant::now();
        let left = audit.shrink(PAGES_AT_ONCE).await?;
        // One that was made by an earlier release keeps its size; its free pages are used again all the same.
        if left.all >= pages.all {
            break;
        }
        pages = left;
        // As above: gateways that deliver records come in between.
        sleep(started.elapsed()).await;
    }
    Ok(())
}

/// More than a tenth of the file: to move pages that are needed again within the retention would be work for nothing.
fn has_too_many_free(pages: Pages) -> bool {
    pages.free > SPARE_PAGES.max(pages.all / 10)
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use omniflow_policy::audit::{AuditBatch, AuditItem, AuditSource};
    use omniflow_policy::gateway::{EnforcedReport, Incarnation};
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::http::testing::{Plane, START, record};

    const DAY: Duration = Duration::from_secs(86_400);

    async fn ids(plane: &Plane) -> Vec<String> {
        let list = plane.get("/v1/audit?limit=500").await.expect(StatusCode::OK);
        let items = list["items"].as_array().unwrap().iter();
        items.map(|entry| entry["request_id"].as_str().unwrap().to_owned()).collect()
    }

    #[tokio::test]
    async fn records_and_gaps_go_after_their_time_and_uses_of_keys_stay() {
        let plane = Plane::new().await;
        let token = plane.token("gateway").await;
        let created = plane.key("ci").await;
        let id: Uuid = serde_json::from_value(created["key"]["id"].clone()).unwrap();
        let key = Some((id, "ci"));
        // The number 1 is missing.
        plane.deliver(&token, vec![record(0, START, key), record(2, START + 1, key)]).await;
        plane.pass(90 * DAY);
        plane.deliver(&token, vec![record(3, START + 90 * 86_400_000, key)]).await;
        purge(&plane.app).await.unwrap();
        assert_eq!(ids(&plane).await, ["request-3", "request-2", "request-0"], "on the day they are there");

        plane.pass(Duration::from_millis(1));
        purge(&plane.app).await.unwrap();
        assert_eq!(ids(&plane).await, ["request-3", "request-2"]);
        let gaps = async || plane.get("/v1/audit/gaps").await.expect(StatusCode::OK)["items"].clone();
        assert_eq!(gaps().await[0]["missing"], 1);

        plane.pass(Duration::from_millis(1));
        purge(&plane.app).await.unwrap();
        assert_eq!((ids(&plane).await, gaps().await), (vec!["request-3".to_owned()], json!([])));

        plane.pass(91 * DAY);
        purge(&plane.app).await.unwrap();
        assert!(ids(&plane).await.is_empty());
        let shown = plane.get("/v1/keys/ci").await.expect(StatusCode::OK);
        assert_eq!(shown["last_used_at"], "2027-04-15T08:00:00.000Z");
        let events = plane.get("/v1/events").await.expect(StatusCode::OK);
        assert_eq!(events["items"].as_array().unwrap().len(), 3, "the trail stays: {events}");

        // What was purged is still known as delivered.
        plane.deliver(&token, vec![record(3, START + 90 * 86_400_000, key)]).await;
        assert!(ids(&plane).await.is_empty());
    }

    #[tokio::test]
    async fn places_of_gateways_that_are_gone_are_forgotten() {
        let plane = Plane::new().await;
        let token = plane.token("gateway").await;
        let deliver = async |incarnation, sequence, time| {
            let source = AuditSource {
                gateway: "edge".to_owned(),
                incarnation: Incarnation(incarnation),
                vm: Incarnation(1),
            };
            let items = vec![AuditItem::Call(record(sequence, time, None))];
            let batch = AuditBatch { source, delivery: None, items };
            plane.deliver_bytes(&token, batch.encode()).await
        };
        let quiet = async || {
            let streams = plane.app.storage.audit.quiet_streams(UnixMillis(u64::MAX >> 1)).await.unwrap();
            streams.iter().map(|run| run.incarnation.0).collect::<Vec<_>>()
        };
        for run in 0..3 * STREAMS_AT_ONCE as u64 {
            deliver(run, 0, START).await;
        }
        plane.pass(180 * DAY);
        deliver(1, 1, START + 1).await;
        purge(&plane.app).await.unwrap();
        assert_eq!(quiet().await.len(), 3 * STREAMS_AT_ONCE, "on the day they are known");

        // One has no calls, and is there. Its next call leaves no gap behind.
        plane.pass(Duration::from_millis(1));
        let report = EnforcedReport {
            gateway: "edge".to_owned(),
            incarnation: Incarnation(7),
            installation: None,
            vms: Vec::new(),
        };
        plane.app.fleet.reported(&report, true);
        purge(&plane.app).await.unwrap();
        assert_eq!(quiet().await, [1, 7]);
        deliver(7, 1, START + 1).await;
        let gaps = plane.get("/v1/audit/gaps").await.expect(StatusCode::OK);
        assert_eq!(gaps["items"], json!([]));
    }

    /// Delivers `count` records that begin at `time`.
    async fn fill(plane: &Plane, token: &str, first: u64, count: u64, time: u64) {
        for first in (first..first + count).step_by(1_000) {
            let records = (first..first + 1_000).map(|n| record(n, time + n, None)).collect();
            assert_eq!(plane.deliver(token, records).await.status, StatusCode::NO_CONTENT);
        }
    }

    #[tokio::test]
    async fn the_file_is_used_again_and_shrinks_where_much_of_it_is_empty() {
        let plane = Plane::new().await;
        let token = plane.token("gateway").await;
        let audit = &plane.app.storage.audit;
        fill(&plane, &token, 0, 20_000, START).await;
        let full = audit.pages().await.unwrap();
        assert!(full.free < 100 && full.all > 4 * SPARE_PAGES, "{full:?}");

        plane.pass(91 * DAY);
        purge(&plane.app).await.unwrap();
        let purged = audit.pages().await.unwrap();
        assert!(purged.free <= SPARE_PAGES, "{purged:?}");
        assert!(purged.all < full.all / 2, "given back: {purged:?} of {full:?}");

        let spare = purged.free;
        fill(&plane, &token, 20_000, 2_000, START + 91 * 86_400_000).await;
        let reused = audit.pages().await.unwrap();
        assert!(reused.free < spare, "{reused:?}");
        assert!(reused.all <= purged.all + 8, "free pages come first: {reused:?} after {purged:?}");
    }

    #[tokio::test]
    async fn records_arrive_while_old_ones_go() {
        let plane = Plane::new().await;
        let token = plane.token("gateway").await;
        fill(&plane, &token, 0, 5_000, START).await;
        plane.pass(91 * DAY);
        let now = START + 91 * 86_400_000;
        let arriving = async {
            let mut delivered = 0;
            while delivered < 50 {
                let n = 5_000 + delivered;
                let answer = plane.deliver(&token, vec![record(n, now + n, None)]).await;
                assert_eq!(answer.status, StatusCode::NO_CONTENT);
                delivered += 1;
            }
        };
        let (purged, ()) = tokio::join!(purge(&plane.app), arriving);
        purged.unwrap();
        let expected: Vec<String> = (5_000..5_050).rev().map(|n| format!("request-{n}")).collect();
        assert_eq!(ids(&plane).await, expected);
    }

    /// `cargo test --release -p omniflow-control-plane --lib ingest_waits -- --ignored --nocapture`
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "it measures, and asserts nothing"]
    async fn ingest_waits_for_a_piece_at_most() {
        let plane = Plane::new().await;
        let token = plane.token("gateway").await;
        fill(&plane, &token, 0, 200_000, START).await;
        plane.pass(91 * DAY);
        let (now, mut next) = (START + 91 * 86_400_000, 200_000);
        let mut deliver = async || {
            let started = Instant::now();
            let records = (next..next + 100).map(|n| record(n, now + n, None)).collect();
            assert_eq!(plane.deliver(&token, records).await.status, StatusCode::NO_CONTENT);
            next += 100;
            started.elapsed()
        };
        let told = |what: &str, mut took: Vec<Duration>| {
            took.sort();
            let (median, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
            println!(
                "{what}: {} batches of 100, median {median:?}, p99 {p99:?}, longest {:?}",
                took.len(),
                took[took.len() - 1]
            );
        };
        let mut alone = Vec::new();
        for _ in 0..500 {
            alone.push(deliver().await);
        }
        told("alone", alone);
        let started = Instant::now();
        let purging = purge(&plane.app);
        tokio::pin!(purging);
        let mut beside = Vec::new();
        loop {
            tokio::select! {
                purged = &mut purging => break purged.unwrap(),
                took = deliver() => beside.push(took),
            }
        }
        println!("200000 records purged in {:?}", started.elapsed());
        told("beside the purge", beside);
    }
}
