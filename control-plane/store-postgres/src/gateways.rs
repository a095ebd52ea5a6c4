//! Gateways: when each was last seen, and the delivery state of its records.

use async_trait::async_trait;
use omniflow_domain::gateway::{GatewayId, Sighting};
use omniflow_policy::time::UnixMillis;
use omniflow_store::encoding::gateways::{gateway_id, open_gateway, sighting};
use omniflow_store::encoding::{Columns, digest_bytes, row_limit, to_millis};
use omniflow_store::{GatewayStore, GatewayWrites, OpenGateway, Result};
use sqlx::{Postgres, QueryBuilder};

use crate::PostgresStore;
use crate::transaction::PostgresTransaction;

#[async_trait]
impl GatewayStore for PostgresStore {
    async fn sightings(&self, since: UnixMillis, limit: usize) -> Result<Vec<Sighting>> {
        let rows = self.database.reader().await?.rows(sqlx::query(
            "SELECT gateway, incarnation, first_seen_at, last_seen_at, token_id, token_digest, hung_up_at, busy \
             FROM gateways WHERE last_seen_at >= $1 ORDER BY last_seen_at DESC, gateway, incarnation LIMIT $2",
        )
        .bind(to_millis(since))
        .bind(row_limit(limit))).await?;
        rows.iter().map(sighting).collect()
    }

    async fn open_gateways(&self, limit: usize) -> Result<Vec<OpenGateway>> {
        let rows = self.database.reader().await?.rows(sqlx::query(
            "SELECT gateway, incarnation, heard_at FROM audit_gateways WHERE NOT quiescent AND gap IS NULL \
             ORDER BY heard_at LIMIT $1",
        )
        .bind(row_limit(limit))).await?;
        rows.iter().map(open_gateway).collect()
    }

    async fn gateway_reports(&self) -> Result<u64> {
        let row =
            self.database.reader().await?.row(sqlx::query("SELECT count(*) FROM audit_gateways")).await?;
        row.column(0)
    }

    async fn quiet_streams(&self, before: UnixMillis) -> Result<Vec<GatewayId>> {
        let rows = self
            .database
            .reader()
            .await?
            .rows(
                sqlx::query(
                    "SELECT gateway, incarnation FROM audit_streams GROUP BY gateway, incarnation \
             HAVING max(last_time) < $1",
                )
                .bind(to_millis(before)),
            )
            .await?;
        rows.iter().map(gateway_id).collect()
    }

    async fn forget_streams(&self, runs: &[GatewayId], before: UnixMillis) -> Result<()> {
        let mut transaction = self.begin_log().await?;
        for run in runs {
            transaction.connection().execute(sqlx::query("DELETE FROM audit_streams WHERE gateway = $1 AND incarnation = $2 AND last_time < $3")
                .bind(run.gateway.clone())
                .bind(String::from(run.incarnation))
                .bind(to_millis(before))).await?;
        }
        transaction.commit().await
    }
}

#[async_trait]
impl GatewayWrites for PostgresTransaction {
    async fn note_sightings(&mut self, sightings: &[Sighting]) -> Result<()> {
        let mut statement = QueryBuilder::<Postgres>::new(
            "INSERT INTO gateways (gateway, incarnation, first_seen_at, last_seen_at, token_id, token_digest, \
             hung_up_at, busy) ",
        );
        statement.push_values(sightings, |mut row, sighting| {
            row.push_bind(sighting.id.gateway.clone())
                .push_bind(String::from(sighting.id.incarnation))
                .push_bind(to_millis(sighting.first_seen_at))
                .push_bind(to_millis(sighting.last_seen_at))
                .push_bind(sighting.token.as_ref().map(|token| token.id))
                .push_bind(sighting.token.as_ref().map(|token| digest_bytes(token.digest)))
                .push_bind(sighting.hung_up_at.map(to_millis))
                .push_bind(sighting.is_busy);
        });
        statement.push(
            " ON CONFLICT (gateway, incarnation) DO UPDATE SET last_seen_at = excluded.last_seen_at, token_id = excluded.token_id, \
             token_digest = excluded.token_digest, hung_up_at = excluded.hung_up_at, busy = excluded.busy",
        );
        self.connection().execute(statement.build()).await?;
        Ok(())
    }

    async fn remove_sightings(&mut self, ids: &[GatewayId]) -> Result<()> {
        for id in ids {
            self.connection()
                .execute(
                    sqlx::query("DELETE FROM gateways WHERE gateway = $1 AND incarnation = $2")
                        .bind(id.gateway.clone())
                        .bind(String::from(id.incarnation)),
                )
                .await?;
        }
        Ok(())
    }

    async fn prune_sightings(&mut self, since: UnixMillis, most: usize) -> Result<()> {
        self.connection()
            .execute(sqlx::query("DELETE FROM gateways WHERE last_seen_at < $1").bind(to_millis(since)))
            .await?;
        self.connection()
            .execute(
                sqlx::query(
                    "DELETE FROM gateways WHERE last_seen_at <= \
             (SELECT last_seen_at FROM gateways ORDER BY last_seen_at DESC LIMIT 1 OFFSET $1)",
                )
                .bind(row_limit(most)),
            )
            .await?;
        Ok(())
    }
}
