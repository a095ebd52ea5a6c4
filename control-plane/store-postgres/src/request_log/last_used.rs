//! When keys were last used.

use std::collections::BTreeMap;
use std::collections::HashMap;

use omniflow_policy::denial::Outcome;
use omniflow_policy::time::UnixMillis;
use omniflow_store::Result;
use omniflow_store::ingest::Arrival;
use omniflow_store::rollup::KeyCalls;
use uuid::Uuid;

use super::list::unsigned;
use crate::columns::{Columns, from_millis, to_millis};
use crate::database::Database;
use crate::transaction::PostgresTransaction;

impl Database {
    /// When a call with each version of these keys was last allowed. Versions without one are not in the map.
    pub(crate) async fn last_used(&self, keys: &[Uuid]) -> Result<HashMap<(Uuid, u16), UnixMillis>> {
        let query =
            sqlx::query("SELECT key_id, version, last_used_at FROM key_last_used WHERE key_id = ANY($1)")
                .bind(keys);
        let rows = self.reader().await?.rows(query).await?;
        rows.iter()
            .map(|row| {
                let version = unsigned(row.column::<i32, _>(1)?, "a version")?;
                Ok(((row.column(0)?, version), from_millis(row.column(2)?)))
            })
            .collect()
    }
}

impl PostgresTransaction {
    /// Updates the time of the last allowed call of each key version, calls in progress included. Corrects stored times
    /// after `latest`, which a wrong clock caused.
    pub(crate) async fn note_uses(&mut self, arrival: &Arrival<'_>, latest: UnixMillis) -> Result<()> {
        let mut uses: BTreeMap<(Uuid, u16), UnixMillis> = BTreeMap::new();
        let in_progress = arrival.in_progress.iter().map(|call| &call.record);
        let records = arrival.records.iter().copied().chain(in_progress).filter_map(KeyCalls::of_record);
        let aggregated = arrival.aggregated.iter().filter_map(|aggregate| KeyCalls::of_aggregate(aggregate));
        for calls in records.chain(aggregated).filter(|calls| calls.outcome == Outcome::Allowed) {
            let last = uses.entry((calls.key.id, calls.key.version)).or_insert(calls.last);
            *last = (*last).max(calls.last);
        }
        if uses.is_empty() {
            return Ok(());
        }
        let statement = sqlx::query(
            "INSERT INTO key_last_used AS stored (key_id, version, last_used_at) \
             SELECT * FROM unnest($1::uuid[], $2::integer[], $3::bigint[]) ON CONFLICT (key_id, version) DO UPDATE \
             SET last_used_at = least(greatest(stored.last_used_at, excluded.last_used_at), $4)",
        )
        .bind(uses.keys().map(|(key, _)| *key).collect::<Vec<_>>())
        .bind(uses.keys().map(|(_, version)| i32::from(*version)).collect::<Vec<_>>())
        .bind(uses.values().map(|time| to_millis(*time)).collect::<Vec<_>>())
        .bind(to_millis(latest));
        self.connection().execute(statement).await?;
        Ok(())
    }
}
