#[cfg(target_family = "wasm")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use super::*;
use crate::denial::Denial;
use crate::key::Environment;

const OUTCOME: Outcome = Outcome::Denied(Denial::MissingCredentials);

fn address(n: u32) -> Option<IpAddr> {
    Some(IpAddr::V4(Ipv4Addr::from_bits(n)))
}

fn key(n: u32) -> AuditKey {
    let name = format!("key-{n}");
    AuditKey { id: Uuid::from_u128(n.into()), name, version: 1, environment: Environment::Live }
}

fn stranger(source: Option<IpAddr>, time: u64) -> UnboundedCall<'static> {
    UnboundedCall { key: None, source, outcome: OUTCOME, status: 401, time: UnixMillis(time) }
}

fn revoked(key: &AuditKey, source: Option<IpAddr>) -> UnboundedCall<'_> {
    let outcome = Outcome::Denied(Denial::KeyRevoked);
    UnboundedCall { key: Some(key), source, outcome, status: 401, time: UnixMillis(5) }
}

fn end(aggregator: &mut CallAggregator) -> Vec<CallAggregate> {
    let mut emitted = Vec::new();
    aggregator.end_window(|refusals| emitted.push(refusals));
    emitted
}

/// Records that calls of many origins keep in one window.
fn full_records() -> u64 {
    MAX_FIRST_RECORDS as u64 + MAX_FURTHER_RECORDS
}

/// Refuses `calls` calls of an address; returns how many of them were aggregated.
fn refuse(aggregator: &mut CallAggregator, source: Option<IpAddr>, calls: u64) -> u64 {
    (0..calls).filter(|n| aggregator.aggregate(stranger(source, 1_000 + n))).count() as u64
}

#[test]
fn first_refusals_keep_records_and_the_others_are_aggregated() {
    let mut aggregator = CallAggregator::default();
    assert_eq!(refuse(&mut aggregator, address(1), FULL_RECORDS), 0);
    assert!(!aggregator.aggregate(stranger(address(2), 1)), "another address");
    let other = Outcome::Denied(Denial::UnknownKey);
    assert!(!aggregator.aggregate(UnboundedCall { outcome: other, ..stranger(address(1), 1) }), "reason");
    assert_eq!(refuse(&mut aggregator, address(1), 40), 40);
    assert_eq!(aggregator.aggregated(), 40);
    let expected = CallAggregate {
        sequence: 0,
        key: None,
        source_ip: address(1),
        outcome: OUTCOME,
        status: 401,
        calls: 40,
        first_time: UnixMillis(1_000),
        last_time: UnixMillis(1_039),
    };
    assert_eq!((end(&mut aggregator), aggregator.aggregated()), (alloc::vec![expected], 0));
}

#[test]
fn refusals_of_a_key_are_counted_by_version_and_reason_from_all_addresses() {
    let mut aggregator = CallAggregator::default();
    let (one, other) = (key(1), AuditKey { version: 2, ..key(1) });
    let mut aggregated = 0;
    for n in 0..10_000 {
        aggregated += u64::from(aggregator.aggregate(revoked(&one, address(n))));
        aggregated += u64::from(aggregator.aggregate(revoked(&other, address(7))));
    }
    assert_eq!(aggregated, 2 * (10_000 - FULL_RECORDS));
    let emitted = end(&mut aggregator);
    let shown: Vec<_> = emitted
        .iter()
        .map(|item| (item.key.as_ref().map(|key| key.version), item.source_ip, item.calls))
        .collect();
    assert_eq!(shown, [(Some(1), None, 9_990), (Some(2), address(7), 9_990)]);
    assert_eq!(emitted[0].key.as_ref(), Some(&one));
}

#[test]
fn calls_that_pass_without_a_key_are_counted_by_address_and_status() {
    let mut aggregator = CallAggregator::default();
    let passed =
        |status| UnboundedCall { outcome: Outcome::PassedThrough, status, ..stranger(address(1), 1) };
    let aggregated = (0..100).filter(|n| aggregator.aggregate(passed(200 + n % 2 * 204))).count();
    assert_eq!(aggregated, 80);
    let shown: Vec<_> =
        end(&mut aggregator).iter().map(|item| (item.outcome, item.status, item.calls)).collect();
    assert_eq!(shown, [(Outcome::PassedThrough, 200, 40), (Outcome::PassedThrough, 404, 40)]);
}

#[test]
fn a_continuing_flood_yields_one_count_per_window() {
    let mut aggregator = CallAggregator::default();
    assert_eq!(refuse(&mut aggregator, address(1), 100), 100 - FULL_RECORDS);
    for _ in 0..3 {
        end(&mut aggregator);
        assert_eq!(refuse(&mut aggregator, address(1), 100), 100);
    }
    end(&mut aggregator);
    assert_eq!(refuse(&mut aggregator, address(1), 1), 1, "the last call of the flood");
    end(&mut aggregator);
    assert_eq!(refuse(&mut aggregator, address(1), 1), 0, "the flood is over");
}

#[test]
fn memory_and_records_are_bounded_and_every_call_is_counted() {
    let mut aggregator = CallAggregator::default();
    let addresses = 10_000u32;
    let aggregated: u64 = (0..addresses).map(|n| refuse(&mut aggregator, address(n), 2)).sum();
    assert_eq!(aggregator.aggregated(), aggregated);
    assert_eq!(aggregated, 2 * u64::from(addresses) - full_records());
    assert!(aggregator.addresses.tallies.len() <= MAX_ADDRESSES + Denial::ALL.len());
    let emitted = end(&mut aggregator);
    assert_eq!(emitted.iter().map(|item| item.calls).sum::<u64>(), aggregated);
    let others: Vec<_> = emitted.iter().filter(|item| item.source_ip.is_none()).collect();
    assert_eq!((others.len(), others[0].calls), (1, 2 * u64::from(addresses) - 2 * MAX_ADDRESSES as u64));
}

#[test]
fn a_flood_without_keys_takes_no_records_from_calls_with_one() {
    let mut aggregator = CallAggregator::default();
    for n in 0..10_000 {
        refuse(&mut aggregator, address(n), 2);
    }
    assert!(!aggregator.aggregate(revoked(&key(1), address(1))));
    for n in 0..10_000 {
        aggregator.aggregate(revoked(&key(n), address(1)));
    }
    assert!(aggregator.keys.tallies.len() <= MAX_KEYS + Denial::ALL.len());
    let counted: u64 =
        end(&mut aggregator).iter().filter(|item| item.status == 401).map(|item| item.calls).sum();
    // Each key has one call, except the first.
    assert_eq!(counted, (20_000 - full_records()) + (10_001 - MAX_FIRST_RECORDS as u64 - 1));
}

#[test]
fn one_key_takes_no_records_from_others() {
    let mut aggregator = CallAggregator::default();
    let mut full = 0;
    // More groups than all records would be enough for.
    for version in 1..=30 {
        let key = AuditKey { version, ..key(1) };
        full += (0..FULL_RECORDS).filter(|_| !aggregator.aggregate(revoked(&key, address(1)))).count() as u64;
    }
    assert_eq!(full, 1 + MAX_SHARE);
    assert!(!aggregator.aggregate(revoked(&key(2), address(1))));
    // Five such keys use up the further records, and others still have their first.
    for n in 2..=10 {
        for version in 1..=3 {
            let key = AuditKey { version, ..key(n) };
            (0..FULL_RECORDS).for_each(|_| _ = aggregator.aggregate(revoked(&key, address(1))));
        }
    }
    let first = (11..=100).filter(|n| !aggregator.aggregate(revoked(&key(*n), address(1)))).count();
    assert_eq!(first, 90);
    assert!(aggregator.aggregate(revoked(&key(11), address(1))), "its second");
    assert!(aggregator.aggregate(revoked(&key(101), address(1))), "the rate of records is bounded");
}
