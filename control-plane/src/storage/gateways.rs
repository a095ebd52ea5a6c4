//! When gateways were last heard of.

use omniflow_policy::gateway::Incarnation;
use omniflow_policy::time::UnixMillis;
use sqlx::{QueryBuilder, Row, Sqlite};

use super::columns::{from_millis, row_limit, to_millis};
use super::{Database, Result, StorageError, Transaction};
use omniflow_domain::gateway::{GatewayId, Sighting};

impl Database {
    /// At most `limit` gateways that were heard of at `since` or later, the latest first.
    pub(crate) async fn sightings(&self, since: UnixMillis, limit: usize) -> Result<Vec<Sighting>> {
        let rows = sqlx::query(
            "SELECT gateway, incarnation, first_seen_at, last_seen_at FROM gateways WHERE last_seen_at >= ? \
             ORDER BY last_seen_at DESC, gateway, incarnation LIMIT ?",
        )
        .bind(to_millis(since))
        .bind(row_limit(limit))
        .fetch_all(&mut *self.reader().await?)
        .await?;
        rows.iter()
            .map(|row| {
                let incarnation = Incarnation::try_from(row.try_get::<String, _>(1)?)
                    .map_err(|_| StorageError::Corrupt("an incarnation"))?;
                Ok(Sighting {
                    id: GatewayId { gateway: row.try_get(0)?, incarnation },
                    first_seen_at: from_millis(row.try_get(2)?),
                    last_seen_at: from_millis(row.try_get(3)?),
                })
            })
            .collect()
    }
}

impl Transaction<'_> {
    /// Notes when gateways were heard of; a few hundred at once at most.
    pub(crate) async fn note_sightings(&mut self, sightings: &[Sighting]) -> Result<()> {
        let mut statement = QueryBuilder::<Sqlite>::new(
            "INSERT INTO gateways (gateway, incarnation, first_seen_at, last_seen_at) ",
        );
        statement.push_values(sightings, |mut row, sighting| {
            row.push_bind(sighting.id.gateway.clone())
                .push_bind(String::from(sighting.id.incarnation))
                .push_bind(to_millis(sighting.first_seen_at))
                .push_bind(to_millis(sighting.last_seen_at));
        });
        statement.push(" ON CONFLICT DO UPDATE SET last_seen_at = excluded.last_seen_at");
        statement.build().execute(self.connection()).await?;
        Ok(())
    }

    /// Forgets gateways that were not heard of since `since`, and all but the `most` that were heard of last.
    pub(crate) async fn prune_sightings(&mut self, since: UnixMillis, most: usize) -> Result<()> {
        sqlx::query("DELETE FROM gateways WHERE last_seen_at < ?")
            .bind(to_millis(since))
            .execute(self.connection())
            .await?;
        sqlx::query(
            "DELETE FROM gateways WHERE last_seen_at <= \
             (SELECT last_seen_at FROM gateways ORDER BY last_seen_at DESC LIMIT 1 OFFSET ?)",
        )
        .bind(row_limit(most))
        .execute(self.connection())
        .await?;
        Ok(())
    }
}
