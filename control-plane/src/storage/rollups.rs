//! What patterns are found in: calls by key and hour, networks by key, kept in the transaction that stores the records.
//!
//! A batch is added up in memory first and handed over as JSON, so that it costs five statements, whatever its size and
//! however many keys are in it.

use std::collections::{BTreeMap, BTreeSet};

use omniflow_policy::audit::AuditRecord;
use omniflow_policy::outcome::{Denial, Outcome};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Result, Transaction};
use crate::model::finding::Network;
use crate::patterns::{ErrorClass, HOUR_MS, SLOT_MS};

/// Calls of one key in one hour, or from one network, or with one version after its end.
#[derive(Default)]
struct Sum {
    name: String,
    first: u64,
    last: u64,
    calls: u64,
    errors: [u64; ErrorClass::ALL.len()],
}

/// What a batch adds.
#[derive(Default)]
struct Sums {
    hours: BTreeMap<(Uuid, u64), Sum>,
    networks: BTreeMap<(Uuid, Network), Sum>,
    places: BTreeSet<(Uuid, u64, Network)>,
    ends: BTreeMap<(Uuid, u16, &'static str), Sum>,
}

const ADD_HOURS: &str = "INSERT INTO key_hours SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, \
     value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, 0, 1 \
     FROM json_each(?) WHERE true \
     ON CONFLICT DO UPDATE SET key_name = excluded.key_name, first_time = min(first_time, excluded.first_time), \
     last_time = max(last_time, excluded.last_time), calls = calls + excluded.calls, \
     unauthorized = unauthorized + excluded.unauthorized, forbidden = forbidden + excluded.forbidden, \
     missing = missing + excluded.missing, limited = limited + excluded.limited, \
     other_errors = other_errors + excluded.other_errors, changed = 1";

const ADD_NETWORKS: &str = "INSERT INTO key_networks SELECT unhex(value ->> 0), unhex(value ->> 1), value ->> 2, \
     value ->> 3, value ->> 4 FROM json_each(?) WHERE true \
     ON CONFLICT DO UPDATE SET first_time = min(first_time, excluded.first_time), \
     last_time = max(last_time, excluded.last_time), calls = calls + excluded.calls";

const ADD_PLACES: &str = "INSERT OR IGNORE INTO key_places SELECT unhex(value ->> 0), value ->> 1, unhex(value ->> 2) \
     FROM json_each(?)";

const COUNT_PLACES: &str = "UPDATE key_hours SET places = max(places, counted.n) FROM ( \
     SELECT touched.id AS id, touched.hour AS hour, max((SELECT count(*) FROM key_places \
     WHERE key_places.key_id = touched.id AND slot = touched.slot)) AS n \
     FROM (SELECT DISTINCT unhex(value ->> 0) AS id, value ->> 1 AS slot, (value ->> 1) / 6 AS hour FROM json_each(?)) \
     AS touched GROUP BY touched.id, touched.hour) AS counted \
     WHERE key_hours.key_id = counted.id AND key_hours.hour = counted.hour";

const ADD_ENDS: &str = "INSERT INTO key_ends SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, \
     value ->> 4, value ->> 5, value ->> 6, 1 FROM json_each(?) WHERE true \
     ON CONFLICT DO UPDATE SET key_name = excluded.key_name, first_time = min(first_time, excluded.first_time), \
     last_time = max(last_time, excluded.last_time), calls = calls + excluded.calls, changed = 1";

impl Transaction<'_> {
    /// Adds records that are new to what is kept of their keys.
    pub(super) async fn roll_up(&mut self, records: &[&AuditRecord]) -> Result<()> {
        let Sums { hours, networks, places, ends } = Sums::of(records);
        let hour_rows = hours.iter().map(|((key, hour), sum)| {
            let [unauthorized, forbidden, missing, limited, other] = sum.errors;
            json!([
                hex(key.as_bytes()),
                hour,
                sum.name,
                sum.first,
                sum.last,
                sum.calls,
                unauthorized,
                forbidden,
                missing,
                limited,
                other
            ])
        });
        let network_rows = networks.iter().map(|((key, network), sum)| {
            json!([hex(key.as_bytes()), hex(&network.prefix()), sum.first, sum.last, sum.calls])
        });
        let place_rows: Vec<Value> = places
            .iter()
            .map(|(key, slot, network)| json!([hex(key.as_bytes()), slot, hex(&network.prefix())]))
            .collect();
        let end_rows = ends.iter().map(|((key, version, reason), sum)| {
            json!([hex(key.as_bytes()), version, reason, sum.name, sum.first, sum.last, sum.calls])
        });
        self.add_rows(ADD_HOURS, hour_rows.collect()).await?;
        self.add_rows(ADD_NETWORKS, network_rows.collect()).await?;
        self.add_rows(ADD_PLACES, place_rows.clone()).await?;
        self.add_rows(COUNT_PLACES, place_rows).await?;
        self.add_rows(ADD_ENDS, end_rows.collect()).await
    }

    async fn add_rows(&mut self, statement: &'static str, rows: Vec<Value>) -> Result<()> {
        if !rows.is_empty() {
            sqlx::query(statement).bind(Value::Array(rows).to_string()).execute(self.connection()).await?;
        }
        Ok(())
    }
}

// === impl Sums ===

impl Sums {
    fn of(records: &[&AuditRecord]) -> Self {
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
