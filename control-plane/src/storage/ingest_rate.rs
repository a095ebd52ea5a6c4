//! How fast records are taken in, next to what SQLite alone would do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use omniflow_policy::audit::{AuditBatch, AuditItem, AuditRecord, AuditSource, DeliveryReport, VmDelivery};
use omniflow_policy::digest::Digest;
use omniflow_policy::gateway::Incarnation;
use omniflow_policy::payload::{CallPayload, PayloadState};
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use super::Storage;
use super::columns::{address_bytes, digest_bytes, saturated, to_millis};
use crate::http::testing::{Plane, START, record};

/// A batch of 256 KiB has about as many.
const BATCH: u64 = 1_500;
const BATCHES: u64 = 40;
const KEYS: usize = 100;
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

fn records(round: u64, keys: &[(Uuid, String)]) -> Vec<AuditRecord> {
    let of = |n: u64| {
        let (id, name) = &keys[usize::try_from(n * 7_919).unwrap() % keys.len()];
        AuditRecord {
            path: format!("/api/v1/contacts/{n:08}"),
            request_id: Uuid::from_u128(u128::from(n) << 64 | 7).to_string(),
            source_ip: Some(std::net::Ipv4Addr::from(0x0a00_0000 + n as u32 % 5_000).into()),
            argument_hash: Digest::of(&n.to_le_bytes()),
            latency_us: n * 31 % 5_000,
            ..record(n, START + n / 5, Some((*id, name)))
        }
    };
    (round * BATCH..(round + 1) * BATCH).map(of).collect()
}

/// The records as a gateway with two workers sends them, each with 300 bytes of arguments if that is wanted.
fn batch(records: Vec<AuditRecord>, has_payloads: bool) -> Vec<u8> {
    let vm = |id| VmDelivery { id: Incarnation(id), begun: 1 << 40, acknowledged: 0, at: UnixMillis(START) };
    let progress =
        DeliveryReport { clock: 0, at: UnixMillis(START), quiescent: false, vms: vec![vm(1), vm(2), vm(3)] };
    let source = AuditSource { gateway: "edge".to_owned(), incarnation: Incarnation(1), vm: Incarnation(2) };
    let item = |record: AuditRecord| {
        if !has_payloads {
            return AuditItem::Call(record);
        }
        let body = format!("{{\"id\":\"{}\",\"note\":\"{:0>240}\"}}", record.request_id, record.latency_us);
        let payload = CallPayload {
            query: Vec::new(),
            body: body.into_bytes(),
            state: PayloadState::Whole,
            media_type: "application/json".to_owned(),
            content_encoding: String::new(),
        };
        AuditItem::CallWithPayload(record, payload)
    };
    AuditBatch { source, delivery: Some(progress), items: records.into_iter().map(item).collect() }.encode()
}

/// One statement a record, prepared once, all of a batch in one transaction. Each goes to the thread of the connection and
/// back, which is most of why the rows of ingest, 64 in a statement, can be faster than this.
async fn insert_alone(storage: &Storage, records: &[AuditRecord]) {
    let mut writer = storage.audit.writer().await;
    let mut transaction = writer.begin().await.unwrap();
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

/// `cargo test --release -p omniflow-control-plane --lib ingest_rate -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures, and wants a machine that does nothing else"]
async fn records_are_taken_in_at_half_the_rate_of_sqlite_alone_and_lists_stay_fast() {
    let plane = Arc::new(Plane::new().await);
    let token = plane.token("gateway").await;
    let mut keys = Vec::new();
    for n in 0..KEYS {
        let name = format!("key-{n}");
        let key = plane.key(&name).await;
        keys.push((key["key"]["id"].as_str().unwrap().parse().unwrap(), name));
    }
    let folder = tempfile::tempdir().unwrap();
    let bare = Storage::open(&folder.path().join("data")).await.unwrap();

    let done = Arc::new(AtomicBool::new(false));
    let lists = tokio::spawn({
        let (plane, done) = (Arc::clone(&plane), Arc::clone(&done));
        async move {
            let mut times = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let began = Instant::now();
                plane.get("/v1/keys").await.expect(StatusCode::OK);
                times.push(began.elapsed());
                // A person or a dashboard, not another load.
                tokio::time::sleep(SHORTEST_PAUSE).await;
            }
            times.sort_unstable();
            times
        }
    });
    let sealing = Plane::new().await;
    let sealing_token = sealing.token("gateway").await;
    let (mut ours, mut sealed, mut alone) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for round in 0..BATCHES {
        let records = records(round, &keys);
        let began = Instant::now();
        insert_alone(&bare, &records).await;
        alone += began.elapsed();
        let with_payloads = batch(records.clone(), true);
        let began = Instant::now();
        let answer = sealing.deliver_bytes(&sealing_token, with_payloads).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        sealed += began.elapsed();
        let without = batch(records, false);
        let began = Instant::now();
        assert_eq!(plane.deliver_bytes(&token, without).await.status, StatusCode::NO_CONTENT);
        ours += began.elapsed();
    }
    done.store(true, Ordering::Relaxed);
    let lists = lists.await.unwrap();
    let rate = |took: Duration| (BATCH * BATCHES) as f64 / took.as_secs_f64();
    let slowest = lists[lists.len() * 99 / 100];
    println!(
        "{:.0} records a second, {:.0} with their arguments, SQLite alone {:.0}: {:.2} and {:.2}; {} lists of keys, \
         99th percentile {slowest:.1?}",
        rate(ours),
        rate(sealed),
        rate(alone),
        rate(ours) / rate(alone),
        rate(sealed) / rate(alone),
        lists.len(),
    );
    assert!(rate(ours) >= rate(alone) / 2.0);
    assert!(slowest < Duration::from_millis(50));
}
