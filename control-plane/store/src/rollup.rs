//! The sums from which anomalies are detected: calls by key and hour, networks by key. A batch is summed in memory;
//! backends add the sums to what they have, in the transaction that stores the records.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use omniflow_domain::anomaly::Network;
use omniflow_domain::detection::{ErrorClass, HOUR_MS, SLOT_MS};
use omniflow_policy::audit::{AuditKey, AuditRecord, CallAggregate};
use omniflow_policy::denial::{Denial, Outcome};
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

/// Calls of one key in one hour, from one network, or with one version after its expiry or revocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// The key's name in the last call.
    pub name: String,
    /// When the first call began, in milliseconds since 1970.
    pub first: u64,
    /// When the last call began.
    pub last: u64,
    /// Number of calls.
    pub calls: u64,
    /// Number of failed calls, by class.
    pub errors: [u64; ErrorClass::ALL.len()],
}

/// The additions of a batch to the sums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// By key and hour since 1970.
    pub hours: BTreeMap<(Uuid, u64), Sum>,
    /// By key and network.
    pub networks: BTreeMap<(Uuid, Network), Sum>,
    /// Networks by key and ten minutes since 1970.
    pub places: BTreeSet<(Uuid, u64, Network)>,
    /// Calls with a revoked or expired version, by key, version and reason. They are not included in the other sums.
    pub ends: BTreeMap<(Uuid, u16, &'static str), Sum>,
}

/// One call with a known key, or several identical ones.
#[derive(Clone, Copy, Debug)]
pub struct KeyCalls<'a> {
    /// The key.
    pub key: &'a AuditKey,
    /// The decision and its reason.
    pub outcome: Outcome,
    /// The status that the client received.
    pub status: u16,
    /// The status of a gRPC response.
    pub grpc_status: Option<u32>,
    /// The client's address; `None` if it is unknown, or there were several.
    pub source_ip: Option<IpAddr>,
    /// Number of calls.
    pub calls: u64,
    /// When the first call began.
    pub first: UnixMillis,
    /// When the last call began.
    pub last: UnixMillis,
}

// === impl Sums ===

impl Sums {
    /// The sums of these records and aggregates. Calls without a known key are ignored, and so are the networks of aggregated
    /// calls from several addresses.
    pub fn of(records: &[&AuditRecord], aggregated: &[&CallAggregate]) -> Self {
        let mut sums = Self::default();
        let aggregated = aggregated.iter().filter_map(|aggregate| KeyCalls::of_aggregate(aggregate));
        for calls in records.iter().filter_map(|record| KeyCalls::of_record(record)).chain(aggregated) {
            sums.add(&calls);
        }
        sums
    }

    fn add(&mut self, calls: &KeyCalls<'_>) {
        let key = calls.key;
        if let Outcome::Denied(reason @ (Denial::KeyRevoked | Denial::KeyExpired)) = calls.outcome {
            self.ends.entry((key.id, key.version, reason.code())).or_default().add(calls);
            return;
        }
        let time = calls.last.0;
        self.hours.entry((key.id, time / HOUR_MS)).or_default().add(calls);
        if let Some(network) = calls.source_ip.map(Network::of) {
            self.networks.entry((key.id, network)).or_default().add(calls);
            self.places.insert((key.id, time / SLOT_MS, network));
        }
    }
}

// === impl KeyCalls ===

impl<'a> KeyCalls<'a> {
    /// The call of this record; `None` without a known key.
    pub fn of_record(record: &'a AuditRecord) -> Option<Self> {
        Some(Self {
            key: record.key.as_ref()?,
            outcome: record.outcome,
            status: record.status,
            grpc_status: record.grpc_status,
            source_ip: record.source_ip,
            calls: 1,
            first: record.time,
            last: record.time,
        })
    }

    /// The calls of this aggregate; `None` without a known key.
    pub fn of_aggregate(aggregate: &'a CallAggregate) -> Option<Self> {
        Some(Self {
            key: aggregate.key.as_ref()?,
            outcome: aggregate.outcome,
            status: aggregate.status,
            grpc_status: None,
            source_ip: aggregate.source_ip,
            calls: aggregate.calls,
            first: aggregate.first_time,
            last: aggregate.last_time,
        })
    }
}

// === impl Sum ===

impl Sum {
    fn add(&mut self, calls: &KeyCalls<'_>) {
        let (first, last) = (calls.first.0, calls.last.0);
        self.first = if self.calls == 0 { first } else { self.first.min(first) };
        if last >= self.last {
            self.last = last;
            calls.key.name.clone_into(&mut self.name);
        }
        self.calls = self.calls.saturating_add(calls.calls);
        let class = ErrorClass::of(calls.status, calls.grpc_status);
        let class = class.and_then(|class| self.errors.get_mut(class as usize));
        if let Some(errors) = class {
            *errors = errors.saturating_add(calls.calls);
        }
    }
}
