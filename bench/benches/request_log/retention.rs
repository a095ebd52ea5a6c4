//! How long a delivery waits while old records are purged.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use omniflow_domain::time::DAY_MS;
use omniflow_test_server::{START, TestServer, record};

use crate::report::{Report, Timings};

/// Records are kept for 90 days by default.
const AGE_DAYS: u64 = 91;
/// Records of one delivery that is measured.
const BATCH: u64 = 100;
/// Records of one delivery that fills the log.
const FILL_BATCH: u64 = 1_000;
const BATCHES_ALONE: u64 = 500;

/// Purges `size` records, rounded up to whole batches.
pub(crate) async fn measure(report: &mut Report, size: u64) {
    let server = TestServer::new().await;
    let token = server.token("gateway").await;
    let deliver = async |first: u64, count: u64, time: u64| {
        let records = (first..first + count).map(|n| record(n, time + n, None)).collect();
        let began = Instant::now();
        server.deliver(&token, records).await.expect(StatusCode::NO_CONTENT);
        began.elapsed()
    };
    let size = size.next_multiple_of(FILL_BATCH);
    for first in (0..size).step_by(FILL_BATCH as usize) {
        deliver(first, FILL_BATCH, START).await;
    }
    server.pass(Duration::from_millis(AGE_DAYS * DAY_MS));
    let now = START + AGE_DAYS * DAY_MS;
    let mut next = size;
    let mut alone = Vec::new();
    for _ in 0..BATCHES_ALONE {
        alone.push(deliver(next, BATCH, now).await);
        next += BATCH;
    }
    report.add(&format!("batch of {BATCH}, alone"), Timings::new(alone));
    let began = Instant::now();
    let purging = server.purge();
    tokio::pin!(purging);
    let mut beside = Vec::new();
    loop {
        tokio::select! {
            () = &mut purging => break,
            took = deliver(next, BATCH, now) => beside.push(took),
        }
        next += BATCH;
    }
    report.add(&format!("purge of {size} records"), format!("{:.1?}", began.elapsed()));
    report.add(&format!("batch of {BATCH}, beside the purge"), Timings::new(beside));
}
