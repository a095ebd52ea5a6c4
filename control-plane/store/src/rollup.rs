//! The sums in which anomalies are found: calls by key and hour, networks by key. A batch is summed in memory; backends add
//! the sums to what they have, in the transaction that stores the records.

use std::collections::{BTreeMap, BTreeSet};

use omniflow_domain::anomaly::Network;
use omniflow_domain::detection::{ErrorClass, HOUR_MS, SLOT_MS};
use omniflow_policy::audit::AuditRecord;
use omniflow_policy::outcome::{Denial, Outcome};
use uuid::Uuid;

/// Calls of one key in one hour, or from one network, or with one version after its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// The key's name in the last call.
    pub name: String,
    /// When the first call began, in milliseconds since 1970.
    pub first: u64,
    /// When the last call began.
    pub last: u64,
    /// How many calls.
    pub calls: u64,
    /// How many of them failed, by class.
    pub errors: [u64; ErrorClass::ALL.len()],
}

/// What a batch adds to the sums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// By key and hour since 1970.
    pub hours: BTreeMap<(Uuid, u64), Sum>,
    /// By key and network.
    pub networks: BTreeMap<(Uuid, Network), Sum>,
    /// Networks by key and ten minutes since 1970.
    pub places: BTreeSet<(Uuid, u64, Network)>,
    /// Calls with a revoked or expired version, by key, version and reason. They are in none of the other sums.
    pub ends: BTreeMap<(Uuid, u16, &'static str), Sum>,
}

// === impl Sums ===

impl Sums {
    /// The sums of these records. Calls without a known key are ignored.
    pub fn of(records: &[&AuditRecord]) -> Self {
        let mut sums = Self::default();
        for record in records {
            let Some(key) = &record.key else { continue };
            if let Outcome::Denied(reason @ (Denial::KeyRevoked | Denial::KeyExpired)) = record.outcome {
                sums.ends.entry((key.id, key.version, reason.code())).or_default().add(record, &key.name);
                continue;
            }
            let time = record.time.0;
            sums.hours.entry((key.id, time / HOUR_MS)).or_default().add(record, &key.name);
            if let Some(network) = record.source_ip.map(Network::of) {
                sums.networks.entry((key.id, network)).or_default().add(record, &key.name);
                sums.places.insert((key.id, time / SLOT_MS, network));
            }
        }
        sums
    }
}

// === impl Sum ===

impl Sum {
    fn add(&mut self, record: &AuditRecord, name: &str) {
        let time = record.time.0;
        self.first = if self.calls == 0 { time } else { self.first.min(time) };
        if time >= self.last {
            self.last = time;
            name.clone_into(&mut self.name);
        }
        self.calls += 1;
        let class = ErrorClass::of(record.status).and_then(|class| self.errors.get_mut(class as usize));
        if let Some(errors) = class {
            *errors += 1;
        }
    }
}
