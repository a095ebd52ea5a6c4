//! Measures how fast records are stored, compared to SQLite alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use omniflow_domain::payload::SealedPayload;
use omniflow_policy::audit::{AuditBatch, AuditItem, AuditRecord, DeliveryReport, VmDelivery};
use omniflow_policy::digest::Digest;
use omniflow_policy::gateway::Incarnation;
use omniflow_policy::time::UnixMillis;
use omniflow_store::contract::fixtures::{LATEST, START, at, id, insert_keys, key, record, source};
use omniflow_store::{KeyFilter, KeyStore, Store};
use uuid::Uuid;

use crate::SqliteStore;
use crate::columns::{address_bytes, digest_bytes, saturated, to_millis};

/// About as many as a batch of 256 KiB has.
const BATCH: u64 = 1_500;
const BATCHES: u64 = 40;
const KEYS: u32 = 100;
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

fn records(round: u64) -> Vec<AuditRecord> {
    let of = |n: u64| {
        let number = u32::try_from(n * 7_919 % u64::from(KEYS)).unwrap() + 1;
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
async fn ingest(store: &SqliteStore, records: Vec<AuditRecord>, payloads: &HashMap<u64, SealedPayload>) {
    let vm = |id| VmDelivery { id: Incarnation(id), begun: 1 << 40, acknowledged: 0, at: UnixMillis(START) };
    let progress =
        DeliveryReport { clock: 0, at: UnixMillis(START), quiescent: false, vms: vec![vm(1), vm(2), vm(3)] };
    let items = records.into_iter().map(AuditItem::Call).collect();
    let batch = AuditBatch { source: source(1, 2), delivery: Some(progress), items };
    let mut transaction = store.begin_log().await.unwrap();
    transaction.ingest(batch, payloads, at(0), LATEST).await.unwrap();
    transaction.commit().await.unwrap();
}

/// One prepared statement for each record, a batch in one transaction. Each statement is a round trip to the connection's
/// thread, which is mostly why ingest, with 64 rows in a statement, can be faster.
async fn insert_alone(store: &SqliteStore, records: &[AuditRecord]) {
    let mut transaction = store.audit.begin().await.unwrap();
    for record in records {
        let key = record.key.as_ref().unwrap();
        sqlx::query(
            "INSERT INTO audit_records (time, gateway, key_id, key_name, key_version, environment, method, endpoint, \
             path, status, decision, reason, latency_us, source_ip, request_id, request_bytes, response_bytes, \
             argument_hash, argument_hash_partial) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        )
        .bind(to_millis(record.time))
        .bind("edge")
        .bind(key.id)
        .bind(&key.name)
        .bind(key.version)
        .bind(key.environment.as_str())
        .bind(&record.method)
        .bind(&record.endpoint)
        .bind(&record.path)
        .bind(record.status)
        .bind(record.outcome.decision())
        .bind(record.outcome.reason())
        .bind(saturated(record.latency_us))
        .bind(record.source_ip.map(address_bytes))
        .bind(&record.request_id)
        .bind(saturated(record.request_bytes))
        .bind(saturated(record.response_bytes))
        .bind(digest_bytes(record.argument_hash))
        .bind(record.argument_hash_partial)
        .execute(transaction.connection())
        .await
        .unwrap();
    }
    transaction.commit().await.unwrap();
}

/// `cargo test --release -p omniflow-store-sqlite ingest_rate -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; needs an idle machine"]
async fn ingest_is_half_as_fast_as_sqlite_alone_and_lists_stay_fast() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [store, sealing, bare] = [0, 1, 2].map(|n| folders[n].path());
    let store = Arc::new(SqliteStore::open(store).await.unwrap());
    let (sealing, bare) = (SqliteStore::open(sealing).await.unwrap(), SqliteStore::open(bare).await.unwrap());
    insert_keys(&*store, &(1..=KEYS).map(key).collect::<Vec<_>>()).await;
    let done = Arc::new(AtomicBool::new(false));
    let lists = tokio::spawn({
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        async move {
            let mut times = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let began = Instant::now();
                assert_eq!(store.keys(&KeyFilter::default(), None, 101).await.unwrap().len(), KEYS as usize);
                times.push(began.elapsed());
                // A person or a dashboard, not another load.
                tokio::time::sleep(SHORTEST_PAUSE).await;
            }
            times.sort_unstable();
            times
        }
    });
    let data_key = 1;
    let (mut plain, mut sealed, mut alone) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for round in 0..BATCHES {
        let records = records(round);
        let payloads = records
            .iter()
            .map(|record| (record.sequence, SealedPayload { data_key, sealed: vec![7; 300] }))
            .collect();
        let began = Instant::now();
        insert_alone(&bare, &records).await;
        alone += began.elapsed();
        let began = Instant::now();
        ingest(&sealing, records.clone(), &payloads).await;
        sealed += began.elapsed();
        let began = Instant::now();
        ingest(&store, records, &HashMap::new()).await;
        plain += began.elapsed();
    }
    done.store(true, Ordering::Relaxed);
    let lists = lists.await.unwrap();
    let rate = |took: Duration| (BATCH * BATCHES) as f64 / took.as_secs_f64();
    let slowest = lists[lists.len() * 99 / 100];
    println!(
        "{:.0} records per second, {:.0} with payloads, SQLite alone {:.0}: {:.2} and {:.2}; {} lists of keys, \
         99th percentile {slowest:.1?}",
        rate(plain),
        rate(sealed),
        rate(alone),
        rate(plain) / rate(alone),
        rate(sealed) / rate(alone),
        lists.len(),
    );
    assert!(rate(plain) >= rate(alone) / 2.0);
    assert!(slowest < Duration::from_millis(50));
}
