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
use omniflow_domain::finding::Network;
use omniflow_domain::patterns::{ErrorClass, HOUR_MS, SLOT_MS};

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
                hex::encode(key.as_bytes()),
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
            json!([
                hex::encode(key.as_bytes()),
                hex::encode(network.prefix()),
                sum.first,
                sum.last,
                sum.calls
            ])
        });
        let place_rows: Vec<Value> = places
            .iter()
            .map(|(key, slot, network)| {
                json!([hex::encode(key.as_bytes()), slot, hex::encode(network.prefix())])
            })
            .collect();
        let end_rows = ends.iter().map(|((key, version, reason), sum)| {
            json!([hex::encode(key.as_bytes()), version, reason, sum.name, sum.first, sum.last, sum.calls])
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use axum::http::StatusCode;
    use omniflow_policy::time::UnixMillis;
    use sqlx::migrate::Migrator;
    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{ConnectOptions, Connection, Row};

    use super::super::database::audit_migrations;
    use super::super::{AUDIT_FILE, Database};
    use super::*;
    use crate::http::testing::{Plane, START, record};
    use crate::outbound::webhook::WebhookSettings;
    use crate::service::jobs::detection::look;

    const KEY: Uuid = Uuid::from_u128(9);
    /// Migrations of the audit log before there were patterns.
    const EARLIER: i64 = 4;

    /// Ten quiet days, and then an hour with all that is ever found.
    fn eventful() -> Vec<AuditRecord> {
        let quiet = (0..240).map(|n| record(n, START - (240 - n) * HOUR_MS, Some((KEY, "ci"))));
        let loud = (240..640).map(|n| {
            let mut record = record(n, START + (n - 240) * 1_000, Some((KEY, "ci")));
            match n {
                240..250 => record.source_ip = Some(format!("198.51.{n}.1").parse().unwrap()),
                250..255 => record.source_ip = Some(format!("2001:db8:{n}::1").parse().unwrap()),
                255 => record.source_ip = None,
                300..350 => {
                    (record.status, record.outcome) = (403, Outcome::Denied(Denial::InsufficientScope));
                }
                350..390 => record.status = [401, 404, 409, 429][n as usize % 4],
                390..393 => (record.status, record.outcome) = (401, Outcome::Denied(Denial::KeyRevoked)),
                _ => {}
            }
            record
        });
        quiet.chain(loud).collect()
    }

    /// An audit log in the form of an earlier release, with the records of the one in `folder`.
    async fn earlier_form(folder: &Path) -> std::path::PathBuf {
        let path = folder.join("earlier.db");
        let all = audit_migrations();
        let earlier = all.iter().filter(|one| one.version <= EARLIER).cloned().collect();
        Database::open(&path, Migrator::with_migrations(earlier), None, 1_000).await.unwrap().close().await;
        let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
        let present = folder.join(AUDIT_FILE).display().to_string();
        sqlx::query("ATTACH DATABASE ? AS present").bind(present).execute(&mut connection).await.unwrap();
        for statement in [
            "INSERT INTO main.audit_records SELECT * FROM present.audit_records",
            "INSERT INTO main.audit_streams SELECT gateway, incarnation, vm, next_sequence, last_time FROM present.audit_streams",
        ] {
            sqlx::query(statement).execute(&mut connection).await.unwrap();
        }
        connection.close().await.unwrap();
        path
    }

    /// All that is kept by key, without whether it was looked at.
    async fn kept(plane: &Plane) -> Vec<Vec<String>> {
        let mut reader = plane.app.storage.audit.reader().await.unwrap();
        let mut kept = Vec::new();
        for statement in [
            "SELECT json_array(hex(key_id), hour, key_name, first_time, last_time, calls, unauthorized, forbidden, \
             missing, limited, other_errors, places) FROM key_hours ORDER BY key_id, hour",
            "SELECT json_array(hex(key_id), hex(network), first_time, last_time, calls) FROM key_networks \
             ORDER BY key_id, network",
            "SELECT json_array(hex(key_id), key_version, reason, key_name, first_time, last_time, calls) \
             FROM key_ends ORDER BY key_id, key_version, reason",
        ] {
            let rows = sqlx::query(statement).fetch_all(&mut *reader).await.unwrap();
            kept.push(rows.iter().map(|row| row.get(0)).collect());
        }
        kept
    }

    async fn found(plane: &Plane) -> Vec<Value> {
        let list = plane.get("/v1/audit/patterns").await.expect(StatusCode::OK);
        list["items"].as_array().unwrap().clone()
    }

    #[tokio::test]
    async fn what_an_earlier_release_recorded_is_summed_up_and_raises_nothing() {
        let plane = Plane::new().await;
        let token = plane.token("gateway").await;
        for part in eventful().chunks(400) {
            assert_eq!(plane.deliver(&token, part.to_vec()).await.status, StatusCode::NO_CONTENT);
        }
        let expected = kept(&plane).await;
        assert_eq!(expected.iter().map(Vec::len).collect::<Vec<_>>(), [241, 16, 1]);

        let (folder, earlier) = (plane.folder().to_owned(), earlier_form(plane.folder()).await);
        let secret_file = folder.join("webhook-secret");
        omniflow_files::private::write_private(&secret_file, "0123456789abcdef").unwrap();
        let plane = plane
            .restart_with(|with| {
                for old in ["-wal", "-shm"].map(|end| folder.join(format!("{AUDIT_FILE}{end}"))) {
                    assert!(!old.exists() || fs::remove_file(old).is_ok());
                }
                fs::rename(earlier, folder.join(AUDIT_FILE)).unwrap();
                let url = "http://127.0.0.1:9/nobody".to_owned();
                with.webhook = Some(WebhookSettings { url, secret_file });
            })
            .await;
        assert_eq!(kept(&plane).await, expected);
        look(&plane.app).await.unwrap();
        assert_eq!(found(&plane).await, [] as [Value; 0]);
        let due = async || plane.app.storage.audit.due_deliveries(UnixMillis(u64::MAX), 9).await.unwrap();
        assert_eq!(due().await.len(), 0);

        let mut late = record(640, START + HOUR_MS, Some((KEY, "ci")));
        late.outcome = Outcome::Denied(Denial::KeyRevoked);
        assert_eq!(plane.deliver(&token, vec![late]).await.status, StatusCode::NO_CONTENT);
        look(&plane.app).await.unwrap();
        assert_eq!((found(&plane).await.len(), due().await.len()), (1, 1), "what comes now is looked at");
    }
}
