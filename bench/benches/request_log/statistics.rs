//! Duration of statistics and pages of the request log in the store.

use std::time::Instant;

use anyhow::{Result, ensure};
use omniflow_domain::audit_query::{AuditFilter, AuditPosition};
use omniflow_domain::key::KeyReference;
use omniflow_domain::stats::Dimension;
use omniflow_domain::time::DAY_MS;
use omniflow_policy::time::UnixMillis;
use omniflow_store::RequestLogStore;
use omniflow_store_sqlite::{SqliteStore, fixtures};
use uuid::Uuid;

use crate::report::Report;

const END: u64 = fixtures::END as u64;

/// Reads a log of `size` records of 90 days.
pub(crate) async fn measure(report: &mut Report, size: u64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = SqliteStore::open(&folder.path().join("data")).await?;
    let began = Instant::now();
    fixtures::records(&store, i64::try_from(size)?).await;
    let bytes = std::fs::metadata(folder.path().join("data/audit.db"))?.len();
    report.add(
        &format!("insertion of {size} records"),
        format!("{:.1?}, {} MiB", began.elapsed(), bytes >> 20),
    );

    let span = |days: u64| (UnixMillis(END - days * DAY_MS), UnixMillis(END));
    let everything = AuditFilter::default();
    let (rare, busy) = (calls_of(1)?, calls_of(0)?);
    for (what, filter, days, by) in [
        ("one key of 200, 30 days, by hour", &rare, 30, Dimension::Hour),
        ("the key of a tenth of all calls, 30 days, by hour", &busy, 30, Dimension::Hour),
        ("all, 1 day, by hour", &everything, 1, Dimension::Hour),
        ("all, 30 days, by hour", &everything, 30, Dimension::Hour),
        ("all, 1 day, by key", &everything, 1, Dimension::Key),
        ("all, 1 day, by address", &everything, 1, Dimension::Address),
        ("one key, 30 days, by address", &rare, 30, Dimension::Address),
    ] {
        for run in ["first", "again"] {
            let began = Instant::now();
            let stats = store.audit_stats(filter, span(days), &[by], 1_000).await?;
            let took = began.elapsed();
            ensure!(stats.total.calls > 0, "{what}: no calls");
            report.add(&format!("{what}, {run}"), format!("{took:.1?} for {} calls", stats.total.calls));
        }
    }
    let mut before: Option<AuditPosition> = None;
    for page in 1..=1_000 {
        let began = Instant::now();
        let entries = store.audit_entries(&busy, before, 101).await?;
        let took = began.elapsed();
        let last = entries.get(99);
        if page == 1 || page == 1_000 || last.is_none() {
            report.add(&format!("page {page} of that key"), format!("{took:.1?}"));
        }
        let Some(last) = last else { break };
        before = Some(AuditPosition { time: last.time, id: last.id });
    }
    Ok(())
}

/// The calls of key number `n` of the fixture.
fn calls_of(n: u8) -> Result<AuditFilter> {
    let id = Uuid::from_slice(format!("{n:016}").as_bytes())?;
    Ok(AuditFilter { key: Some(KeyReference::Id(id)), ..AuditFilter::default() })
}
