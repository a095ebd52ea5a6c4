//! Adds the sums of a batch to those in the database. They are passed as JSON, so that a batch costs five statements,
//! whatever its size and however many keys it contains.

use omniflow_policy::audit::{AuditRecord, CallAggregate};
use omniflow_store::rollup::Sums;
use omniflow_store::{Result, StoreError};
use serde_json::{Value, json};

use crate::database::SqliteTransaction;

const ADD_HOURS: &str = "INSERT INTO key_hours SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, \
     value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, 0, 1 \
     FROM json_each(?) WHERE true \
     ON CONFLICT DO UPDATE SET key_name = excluded.key_name, first_time = min(first_time, excluded.first_time), \
     last_time = max(last_time, excluded.last_time), calls = calls + excluded.calls, \
     unauthorized = unauthorized + excluded.unauthorized, forbidden = forbidden + excluded.forbidden, \
     missing = missing + excluded.missing, limited = limited + excluded.limited, \
     other_errors = other_errors + excluded.other_errors, grpc_errors = grpc_errors + excluded.grpc_errors, changed = 1";

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

impl SqliteTransaction {
    /// Adds new records and aggregates to the sums of their keys.
    pub(crate) async fn roll_up(
        &mut self,
        records: &[&AuditRecord],
        aggregated: &[&CallAggregate],
    ) -> Result<()> {
        let Sums { hours, networks, places, ends } = Sums::of(records, aggregated);
        let hour_rows = hours.iter().map(|((key, hour), sum)| {
            let [unauthorized, forbidden, missing, limited, other, grpc] = sum.errors;
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
                other,
                grpc
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
            sqlx::query(statement)
                .bind(Value::Array(rows).to_string())
                .execute(self.connection())
                .await
                .map_err(StoreError::backend)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use omniflow_store::contract::fixtures::{eventful_records, ingest};
    use sqlx::Row;
    use uuid::Uuid;

    use crate::SqliteStore;

    const KEY: Uuid = Uuid::from_u128(9);

    async fn rows(store: &SqliteStore, statement: &'static str) -> Vec<String> {
        let mut reader = store.audit.reader().await.unwrap();
        let rows = sqlx::query(statement).fetch_all(&mut *reader).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The sums added up batch by batch equal those that SQL computes from all records.
    #[tokio::test]
    async fn sums_are_those_of_all_records() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        for part in eventful_records(KEY).chunks(150) {
            ingest(&store, part.to_vec()).await;
        }
        for (stored, computed, count) in [
            (
                "SELECT json_array(hex(key_id), hour, key_name, first_time, last_time, calls, unauthorized, \
                 forbidden, missing, limited, other_errors, grpc_errors) FROM key_hours ORDER BY key_id, hour",
                "SELECT json_array(hex(key_id), time / 3600000, max(key_name), min(time), max(time), count(*), \
                 sum(status = 401), sum(status = 403), sum(status = 404), sum(status = 429), \
                 sum(status BETWEEN 400 AND 499 AND status NOT IN (401, 403, 404, 429)), \
                 sum(ifnull(grpc_status, 0) > 0)) FROM audit_records \
                 WHERE key_id IS NOT NULL AND reason NOT IN ('key_revoked', 'key_expired') \
                 GROUP BY key_id, time / 3600000 ORDER BY key_id, time / 3600000",
                241,
            ),
            (
                "SELECT json_array(hex(key_id), hour, places) FROM key_hours ORDER BY key_id, hour",
                "SELECT json_array(hex(key_id), slot / 6, max(networks)) FROM (SELECT key_id, time / 600000 AS slot, \
                 count(DISTINCT substr(source_ip, 1, iif(substr(source_ip, 1, 12) = x'00000000000000000000FFFF', 15, 6))) \
                 AS networks FROM audit_records WHERE key_id IS NOT NULL \
                 AND reason NOT IN ('key_revoked', 'key_expired') GROUP BY key_id, slot) \
                 GROUP BY key_id, slot / 6 ORDER BY key_id, slot / 6",
                241,
            ),
            (
                "SELECT json_array(hex(key_id), hex(network), first_time, last_time, calls) FROM key_networks \
                 ORDER BY key_id, network",
                "SELECT json_array(hex(key_id), hex(substr(source_ip, 1, \
                 iif(substr(source_ip, 1, 12) = x'00000000000000000000FFFF', 15, 6))), min(time), max(time), count(*)) \
                 FROM audit_records WHERE key_id IS NOT NULL AND source_ip IS NOT NULL \
                 AND reason NOT IN ('key_revoked', 'key_expired') GROUP BY key_id, substr(source_ip, 1, \
                 iif(substr(source_ip, 1, 12) = x'00000000000000000000FFFF', 15, 6)) \
                 ORDER BY key_id, substr(source_ip, 1, \
                 iif(substr(source_ip, 1, 12) = x'00000000000000000000FFFF', 15, 6))",
                16,
            ),
            (
                "SELECT json_array(hex(key_id), key_version, reason, key_name, first_time, last_time, calls) \
                 FROM key_ends ORDER BY key_id, key_version, reason",
                "SELECT json_array(hex(key_id), key_version, reason, max(key_name), min(time), max(time), count(*)) \
                 FROM audit_records WHERE key_id IS NOT NULL AND reason IN ('key_revoked', 'key_expired') \
                 GROUP BY key_id, key_version, reason ORDER BY key_id, key_version, reason",
                1,
            ),
        ] {
            let stored = rows(&store, stored).await;
            assert_eq!(stored.len(), count);
            assert_eq!(stored, rows(&store, computed).await);
        }
    }
}
