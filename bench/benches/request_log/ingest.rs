//! How fast records are stored, compared with SQLite alone, while the list of keys is read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use omniflow_domain::payload::SealedPayload;
use omniflow_policy::audit::{AuditBatch, AuditItem, AuditRecord, DeliveryReport, VmDelivery};
use omniflow_policy::digest::Digest;
use omniflow_policy::gateway::Incarnation;
use omniflow_policy::time::UnixMillis;
use omniflow_store::contract::fixtures::{LATEST, START, at, id, insert_keys, key, record, source};
use omniflow_store::{KeyFilter, KeyStore, Store};
use omniflow_store_sqlite::{SqliteStore, fixtures};
use uuid::Uuid;

use crate::report::{Report, Timings};

/// About as many records as a batch of 256 KiB contains.
const BATCH: u64 = 1_500;
const KEYS: u32 = 100;
/// Pause between two lists: they are read by a person or a dashboard, not as a second load.
const LIST_PAUSE: Duration = Duration::from_millis(10);
/// Maximum p99 duration of a list during ingest.
const MAX_LIST: Duration = Duration::from_millis(50);

/// Stores `size` records, rounded up to whole batches, in three alternating ways.
pub(crate) async fn measure(report: &mut Report, size: u64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let open = async |name: &str| SqliteStore::open(&folder.path().join(name)).await;
    let (plain, sealing, bare) =
        (Arc::new(open("plain").await?), open("sealing").await?, open("bare").await?);
    insert_keys(&*plain, &(1..=KEYS).map(key).collect::<Vec<_>>()).await;
    let done = Arc::new(AtomicBool::new(false));
    let lists = tokio::spawn(list_keys(Arc::clone(&plain), Arc::clone(&done)));
    let mut took = [Duration::ZERO; 3];
    let batches = size.div_ceil(BATCH);
    for round in 0..batches {
        let records = records(round);
        let payloads = records
            .iter()
            .map(|record| (record.sequence, SealedPayload { data_key: 1, sealed: vec![7; 300] }))
            .collect();
        let began = Instant::now();
        fixtures::insert_one_by_one(&bare, &records).await;
        took[0] += began.elapsed();
        let began = Instant::now();
        ingest(&sealing, records.clone(), &payloads).await?;
        took[1] += began.elapsed();
        let began = Instant::now();
        ingest(&plain, records, &HashMap::new()).await?;
        took[2] += began.elapsed();
    }
    done.store(true, Ordering::Relaxed);
    let lists = lists.await??;
    let [alone, sealed, plain] = took.map(|took| (BATCH * batches) as f64 / took.as_secs_f64());
    report.add("SQLite alone, a statement for each record", format!("{alone:.0} records/s"));
    let relative = |rate: f64| format!("{rate:.0} records/s, {:.2} of SQLite alone", rate / alone);
    report.add("with payloads", relative(sealed));
    report.check("without payloads", relative(plain), "0.50 of SQLite alone", plain >= alone / 2.0);
    let is_met = lists.percentile(99) < MAX_LIST;
    report.check("list of keys beside ingest", lists, &format!("p99 {MAX_LIST:?}"), is_met);
    Ok(())
}

/// Lists all keys until `done`.
async fn list_keys(store: Arc<SqliteStore>, done: Arc<AtomicBool>) -> Result<Timings> {
    let mut durations = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let began = Instant::now();
        let keys = store.keys(&KeyFilter::default(), None, 101).await?;
        durations.push(began.elapsed());
        anyhow::ensure!(keys.len() == KEYS as usize, "{} keys", keys.len());
        // Not a wait for a condition: the pace of the lists during ingest.
        tokio::time::sleep(LIST_PAUSE).await;
    }
    Ok(Timings::new(durations))
}

fn records(round: u64) -> Vec<AuditRecord> {
    let of = |n: u64| {
        let number = (n * 7_919 % u64::from(KEYS)) as u32 + 1;
        let name = format!("key-{number}");
        AuditRecord {
            path: format!("/api/v1/contacts/{n:08}"),
            request_id: Uuid::from_u128(u128::from(n) << 64 | 7).to_string(),
            source_ip: Some(std::net::Ipv4Addr::from(0x0a00_0000 + n as u32 % 5_000).into()),
            argument_hash: Digest::of(&n.to_le_bytes()),
            latency_us: n * 31 % 5_000,
            ..record(n, START + n / 5, Some((id(number), &name)))
        }
    };
    (round * BATCH..(round + 1) * BATCH).map(of).collect()
}

/// Stores the records as a batch of a gateway with two workers, with `payloads` by sequence number.
async fn ingest(
    store: &SqliteStore,
    records: Vec<AuditRecord>,
    payloads: &HashMap<u64, SealedPayload>,
) -> Result<()> {
    let vm = |id| VmDelivery { id: Incarnation(id), begun: 1 << 40, acknowledged: 0, at: UnixMillis(START) };
    let delivery =
        DeliveryReport { clock: 0, at: UnixMillis(START), quiescent: false, vms: vec![vm(1), vm(2), vm(3)] };
    let items = records.into_iter().map(AuditItem::Call).collect();
    let batch = AuditBatch { source: source(1, 2), delivery: Some(delivery), items };
    let mut transaction = store.begin_log().await?;
    transaction.ingest(batch, payloads, at(0), LATEST).await?;
    Ok(transaction.commit().await?)
}
