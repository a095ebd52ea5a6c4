//! Adds the sums of a batch to those in the database: five statements, whatever its size and however many keys it contains.

use std::collections::{BTreeMap, BTreeSet};

use omniflow_domain::anomaly::Network;
use omniflow_policy::audit::{AuditRecord, CallAggregate};
use omniflow_store::Result;
use omniflow_store::encoding::saturated;
use omniflow_store::rollup::{Sum, Sums};
use uuid::Uuid;

use crate::text::storable;
use crate::transaction::PostgresTransaction;

const ADD_HOURS: &str = "INSERT INTO key_hours AS sum SELECT *, 0, true FROM unnest($1::uuid[], $2::bigint[], \
     $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], \
     $11::bigint[], $12::bigint[]) \
     ON CONFLICT (key_id, hour) DO UPDATE SET key_name = excluded.key_name, \
     first_time = least(sum.first_time, excluded.first_time), last_time = greatest(sum.last_time, excluded.last_time), \
     calls = sum.calls + excluded.calls, unauthorized = sum.unauthorized + excluded.unauthorized, \
     forbidden = sum.forbidden + excluded.forbidden, missing = sum.missing + excluded.missing, \
     limited = sum.limited + excluded.limited, other_errors = sum.other_errors + excluded.other_errors, \
     grpc_errors = sum.grpc_errors + excluded.grpc_errors, changed = true";

const ADD_NETWORKS: &str = "INSERT INTO key_networks AS sum SELECT * FROM unnest($1::uuid[], $2::bytea[], \
     $3::bigint[], $4::bigint[], $5::bigint[]) \
     ON CONFLICT (key_id, network) DO UPDATE SET first_time = least(sum.first_time, excluded.first_time), \
     last_time = greatest(sum.last_time, excluded.last_time), calls = sum.calls + excluded.calls";

const ADD_PLACES: &str = "INSERT INTO key_places (key_id, slot, network) \
     SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bytea[]) ON CONFLICT DO NOTHING";

const COUNT_PLACES: &str = "UPDATE key_hours AS sum SET places = counted.places FROM ( \
     SELECT touched.key_id, touched.slot / 6 AS hour, max(used.networks) AS places \
     FROM (SELECT DISTINCT * FROM unnest($1::uuid[], $2::bigint[]) AS place (key_id, slot)) AS touched \
     CROSS JOIN LATERAL (SELECT count(*) AS networks FROM key_places AS place \
     WHERE place.key_id = touched.key_id AND place.slot = touched.slot) AS used GROUP BY 1, 2) AS counted \
     WHERE sum.key_id = counted.key_id AND sum.hour = counted.hour AND sum.places < counted.places";

const ADD_ENDS: &str = "INSERT INTO key_ends AS sum SELECT *, true FROM unnest($1::uuid[], $2::integer[], $3::text[], \
     $4::text[], $5::bigint[], $6::bigint[], $7::bigint[]) \
     ON CONFLICT (key_id, key_version, reason) DO UPDATE SET key_name = excluded.key_name, \
     first_time = least(sum.first_time, excluded.first_time), last_time = greatest(sum.last_time, excluded.last_time), \
     calls = sum.calls + excluded.calls, changed = true";

impl PostgresTransaction {
    /// Adds new records and aggregates to the sums of their keys.
    pub(crate) async fn roll_up(
        &mut self,
        records: &[&AuditRecord],
        aggregated: &[&CallAggregate],
    ) -> Result<()> {
        let Sums { hours, networks, places, ends } = Sums::of(records, aggregated);
        if !hours.is_empty() {
            self.add_hours(&hours).await?;
        }
        if !networks.is_empty() {
            self.add_networks(&networks).await?;
            self.add_places(&places).await?;
        }
        if !ends.is_empty() {
            self.add_ends(&ends).await?;
        }
        Ok(())
    }

    async fn add_hours(&mut self, hours: &BTreeMap<(Uuid, u64), Sum>) -> Result<()> {
        let mut statement = sqlx::query(ADD_HOURS)
            .bind(hours.keys().map(|(key, _)| *key).collect::<Vec<_>>())
            .bind(hours.keys().map(|(_, hour)| saturated(*hour)).collect::<Vec<_>>())
            .bind(hours.values().map(|sum| storable(&sum.name)).collect::<Vec<_>>());
        let numbers =
            hours.values().map(|sum| [sum.first, sum.last, sum.calls].into_iter().chain(sum.errors));
        let mut columns = vec![Vec::with_capacity(hours.len()); 3 + Sum::default().errors.len()];
        for row in numbers {
            for (column, number) in columns.iter_mut().zip(row) {
                column.push(saturated(number));
            }
        }
        for column in columns {
            statement = statement.bind(column);
        }
        self.connection().execute(statement).await?;
        Ok(())
    }

    async fn add_networks(&mut self, networks: &BTreeMap<(Uuid, Network), Sum>) -> Result<()> {
        let statement = sqlx::query(ADD_NETWORKS)
            .bind(networks.keys().map(|(key, _)| *key).collect::<Vec<_>>())
            .bind(networks.keys().map(|(_, network)| network.prefix()).collect::<Vec<_>>())
            .bind(networks.values().map(|sum| saturated(sum.first)).collect::<Vec<_>>())
            .bind(networks.values().map(|sum| saturated(sum.last)).collect::<Vec<_>>())
            .bind(networks.values().map(|sum| saturated(sum.calls)).collect::<Vec<_>>());
        self.connection().execute(statement).await?;
        Ok(())
    }

    /// Adds networks by ten minutes, and then updates the maximum of the hours that have more now.
    async fn add_places(&mut self, places: &BTreeSet<(Uuid, u64, Network)>) -> Result<()> {
        let keys: Vec<_> = places.iter().map(|(key, ..)| *key).collect();
        let slots: Vec<_> = places.iter().map(|(_, slot, _)| saturated(*slot)).collect();
        let networks: Vec<_> = places.iter().map(|(.., network)| network.prefix()).collect();
        let statement = sqlx::query(ADD_PLACES).bind(&keys).bind(&slots).bind(networks);
        self.connection().execute(statement).await?;
        self.connection().execute(sqlx::query(COUNT_PLACES).bind(&keys).bind(&slots)).await?;
        Ok(())
    }

    async fn add_ends(&mut self, ends: &BTreeMap<(Uuid, u16, &'static str), Sum>) -> Result<()> {
        let statement = sqlx::query(ADD_ENDS)
            .bind(ends.keys().map(|(key, ..)| *key).collect::<Vec<_>>())
            .bind(ends.keys().map(|(_, version, _)| i32::from(*version)).collect::<Vec<_>>())
            .bind(ends.keys().map(|(.., reason)| *reason).collect::<Vec<_>>())
            .bind(ends.values().map(|sum| storable(&sum.name)).collect::<Vec<_>>())
            .bind(ends.values().map(|sum| saturated(sum.first)).collect::<Vec<_>>())
            .bind(ends.values().map(|sum| saturated(sum.last)).collect::<Vec<_>>())
            .bind(ends.values().map(|sum| saturated(sum.calls)).collect::<Vec<_>>());
        self.connection().execute(statement).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use omniflow_store::contract::fixtures::{eventful_records, ingest};

    use super::*;
    use crate::test_store::{new_store, rows};
    use omniflow_store::encoding::Columns;

    const KEY: Uuid = Uuid::from_u128(9);

    /// Pairs of queries, of stored sums and of the same sums computed from all records, with their number.
    const SUMS: [(&str, &str, usize); 4] = [
        (
            "SELECT key_id, hour, key_name, first_time, last_time, calls, unauthorized, forbidden, missing, limited, \
             other_errors, grpc_errors FROM key_hours",
            "SELECT key_id, time / 3600000, max(key_name), min(time), max(time), count(*), \
             count(*) FILTER (WHERE status = 401), count(*) FILTER (WHERE status = 403), \
             count(*) FILTER (WHERE status = 404), count(*) FILTER (WHERE status = 429), \
             count(*) FILTER (WHERE status BETWEEN 400 AND 499 AND status NOT IN (401, 403, 404, 429)), \
             count(*) FILTER (WHERE grpc_status > 0) FROM calls GROUP BY 1, 2",
            241,
        ),
        (
            "SELECT key_id, hour, places FROM key_hours",
            "SELECT key_id, slot / 6, max(networks) FROM (SELECT key_id, time / 600000 AS slot, \
             count(DISTINCT network) AS networks FROM calls GROUP BY 1, 2) AS slots GROUP BY 1, 2",
            241,
        ),
        (
            "SELECT key_id, network, first_time, last_time, calls FROM key_networks",
            "SELECT key_id, network, min(time), max(time), count(*) FROM calls WHERE network IS NOT NULL GROUP BY 1, 2",
            16,
        ),
        (
            "SELECT key_id, key_version, reason, key_name, first_time, last_time, calls FROM key_ends",
            "SELECT key_id, key_version, reason, max(key_name), min(time), max(time), count(*) FROM audit_records \
             WHERE reason IN ('key_revoked', 'key_expired') GROUP BY 1, 2, 3",
            1,
        ),
    ];
    const CALLS: &str = "WITH calls AS (SELECT *, substr(source_ip, 1, CASE WHEN substr(source_ip, 1, 12) = \
         '\\x00000000000000000000ffff' THEN 15 ELSE 6 END) AS network FROM audit_records \
         WHERE key_id IS NOT NULL AND reason NOT IN ('key_revoked', 'key_expired')) ";

    /// The sums added up batch by batch equal those that SQL computes from all records.
    #[tokio::test]
    async fn sums_are_those_of_all_records() {
        let (store, _database) = new_store().await;
        for part in eventful_records(KEY).chunks(150) {
            ingest(&store, part.to_vec()).await;
        }
        for (stored, computed, count) in SUMS {
            let texts = async |query: String| -> Vec<String> {
                let query = format!("{CALLS} SELECT row::text FROM ({query}) AS row ORDER BY 1");
                rows(&store, &query).await.iter().map(|row| row.column(0).unwrap()).collect()
            };
            let stored = texts(stored.to_owned()).await;
            assert_eq!(stored.len(), count);
            assert_eq!(stored, texts(computed.to_owned()).await);
        }
    }
}
