//! When keys were last used.

use std::collections::HashMap;

use omniflow_policy::time::UnixMillis;
use omniflow_store::Result;
use omniflow_store::encoding::request_log::last_use;
use omniflow_store::encoding::to_millis;
use omniflow_store::ingest::{Arrival, last_uses};
use uuid::Uuid;

use crate::database::Database;
use crate::transaction::PostgresTransaction;

impl Database {
    /// When a call with each version of these keys was last allowed. Versions without one are not in the map.
    pub(crate) async fn last_used(&self, keys: &[Uuid]) -> Result<HashMap<(Uuid, u16), UnixMillis>> {
        let query =
            sqlx::query("SELECT key_id, version, last_used_at FROM key_last_used WHERE key_id = ANY($1)")
                .bind(keys);
        let rows = self.reader().await?.rows(query).await?;
        rows.iter().map(last_use).collect()
    }
}

impl PostgresTransaction {
    /// Updates the time of the last allowed call of each key version, calls in progress included. Corrects stored times
    /// after `latest`, which a wrong clock caused.
    pub(crate) async fn note_uses(&mut self, arrival: &Arrival<'_>, latest: UnixMillis) -> Result<()> {
        let uses = last_uses(arrival);
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
