use proptest::prelude::*;
use uuid::Uuid;
#[cfg(target_family = "wasm")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;
use crate::audit::{
    ArgumentHash, AuditKey, CallAggregate, CallEnd, CallInProgress, Interruption, MAX_REPORTED_VMS,
    ReportedGap, ReportedGapCause, VmDelivery,
};
use crate::denial::{Denial, Outcome};
use crate::key::Environment;
use crate::payload::{CallPayload, MAX_PAYLOAD_BYTES, PayloadState};
use crate::time::UnixMillis;

fn key() -> AuditKey {
    AuditKey {
        id: Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001),
        name: "crm-sync".into(),
        version: 2,
        environment: Environment::Live,
    }
}

fn record(sequence: u64) -> AuditRecord {
    AuditRecord {
        sequence,
        time: UnixMillis(1_700_000_000_123),
        key: Some(key()),
        method: "GET".into(),
        endpoint: Some("/api/v1/contacts/{id}".into()),
        path: "/api/v1/contacts/7".into(),
        status: 403,
        grpc_status: Some(7),
        interruption: Some(Interruption::Timeout),
        outcome: Outcome::Denied(Denial::InsufficientScope),
        latency_us: 1_234,
        source_ip: Some("203.0.113.7".parse().unwrap()),
        request_id: "d1".into(),
        request_bytes: 120,
        response_bytes: 310,
        argument_hash: ArgumentHash::new(b"a=1").finish(),
        argument_hash_partial: false,
    }
}

fn batch() -> AuditBatch {
    let source = AuditSource { gateway: "edge-1".into(), incarnation: Incarnation(1), vm: Incarnation(2) };
    let of_address = CallAggregate {
        sequence: 2,
        key: None,
        source_ip: Some("2001:db8::7".parse().unwrap()),
        outcome: Outcome::Denied(Denial::UnknownKey),
        status: 401,
        calls: 30,
        first_time: UnixMillis(1_700_000_000_200),
        last_time: UnixMillis(1_700_000_000_900),
    };
    let outcome = Outcome::Denied(Denial::RateLimited);
    let of_key = CallAggregate {
        sequence: 32,
        key: Some(key()),
        source_ip: None,
        outcome,
        status: 429,
        calls: 10,
        ..of_address
    };
    let gap = ReportedGap {
        sequence: 42,
        calls: 7,
        cause: ReportedGapCause::VmLost,
        from: None,
        to: UnixMillis(1_700_000_001_000),
    };
    let payload = CallPayload {
        query: b"a=1".to_vec(),
        body: b"{}".to_vec(),
        state: PayloadState::Cut,
        media_type: "application/json".into(),
        content_encoding: String::new(),
    };
    let items = vec![
        AuditItem::Call(record(0)),
        AuditItem::Call(record(1)),
        AuditItem::Aggregated(of_address),
        AuditItem::Aggregated(of_key),
        AuditItem::Gap(gap),
        AuditItem::CallWithPayload(record(49), payload),
        AuditItem::InProgress(CallInProgress { number: 3, record: record(50) }),
        AuditItem::Ended(CallEnd { number: 3, sequence: 50, time: UnixMillis(1_700_000_000_123) }),
    ];
    let vm = |id, begun, acknowledged| VmDelivery {
        id: Incarnation(id),
        begun,
        acknowledged,
        at: UnixMillis(1_700_000_001_500),
    };
    let delivery = DeliveryReport {
        clock: 86_400_000,
        at: UnixMillis(1_700_000_001_600),
        quiescent: false,
        vms: vec![vm(2, 50, 40), vm(3, 0, 0)],
    };
    AuditBatch { source, delivery: Some(delivery), items }
}

#[test]
fn decoding_an_encoded_batch_returns_the_batch() {
    assert_eq!(AuditBatch::decode(&batch().encode()), Ok(batch()));
}

#[test]
fn the_format_is_golden() {
    // A released format stays readable: these bytes never change for format 1.
    let golden = include_str!("../../../golden/audit-batch-1.hex").trim();
    assert_eq!(hex::encode(batch().encode()), golden);
    assert_eq!(AuditBatch::decode(&hex::decode(golden).unwrap()), Ok(batch()));
}

#[test]
fn sequence_numbers_count_calls_and_an_item_without_calls_is_rejected() {
    let spans: Vec<_> = batch().items.iter().map(|item| (item.sequence(), item.next_sequence())).collect();
    assert_eq!(spans, [(0, 1), (1, 2), (2, 32), (32, 42), (42, 49), (49, 50), (50, 50), (50, 50)]);
    for mut item in batch().items {
        match &mut item {
            AuditItem::Aggregated(aggregate) => aggregate.calls = 0,
            AuditItem::Gap(gap) => gap.calls = 0,
            _ => continue,
        }
        let bytes = AuditBatch { items: vec![item], ..batch() }.encode();
        assert_eq!(AuditBatch::decode(&bytes), Err(InvalidBatch::Damaged));
    }
}

#[test]
fn times_are_clamped_to_the_latest_and_a_start_to_the_end() {
    let latest = UnixMillis(1_000);
    for mut item in batch().items {
        item.clamp_times(latest);
        assert_eq!(item.time(), latest);
        if let AuditItem::Aggregated(aggregate) = item {
            assert_eq!(aggregate.first_time, latest);
        }
    }
}

#[test]
fn garbage_and_other_formats_are_rejected() {
    assert_eq!(AuditBatch::decode(b""), Err(InvalidBatch::Foreign));
    assert_eq!(AuditBatch::decode(b"OMFA"), Err(InvalidBatch::Damaged));
    for format in [0, 2, 5] {
        assert_eq!(
            AuditBatch::decode(&[b'O', b'M', b'F', b'A', format, 0]),
            Err(InvalidBatch::Format(u16::from(format)))
        );
    }
    let bytes = batch().encode();
    for end in 6..bytes.len() {
        let truncated = AuditBatch::decode(&bytes[..end]);
        assert!(truncated.is_err() || truncated.unwrap().items.len() < 8, "truncated at {end}");
    }
}

#[test]
fn a_delivery_report_needs_no_items_and_is_rejected_with_too_many_vms() {
    let report_only = AuditBatch { items: Vec::new(), ..batch() };
    assert_eq!(AuditBatch::decode(&report_only.encode()), Ok(report_only.clone()));
    let mut delivery = report_only.delivery.clone().unwrap();
    delivery.vms.resize(MAX_REPORTED_VMS + 1, delivery.vms[0]);
    let too_many = AuditBatch { delivery: Some(delivery), ..report_only };
    assert_eq!(AuditBatch::decode(&too_many.encode()), Err(InvalidBatch::Damaged));
}

#[test]
fn a_payload_above_the_maximum_is_rejected() {
    let mut items = batch().items;
    let Some(AuditItem::CallWithPayload(_, payload)) = items.get_mut(5) else { panic!("no payload") };
    payload.body = vec![0; MAX_PAYLOAD_BYTES as usize];
    let bytes = AuditBatch { items, ..batch() }.encode();
    assert_eq!(AuditBatch::decode(&bytes), Err(InvalidBatch::Damaged));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = AuditBatch::decode(&bytes);
        let framed = [MAGIC.as_slice(), &FORMAT.to_le_bytes(), &bytes].concat();
        let _ = AuditBatch::decode(&framed);
    }
}
