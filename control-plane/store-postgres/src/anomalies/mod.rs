//! Anomalies, and their delivery to the webhook.

mod hours;

use async_trait::async_trait;
use omniflow_domain::anomaly::{Anomaly, AnomalyFilter, AnomalyKind, Detection};
use omniflow_domain::detection::{History, Present};
use omniflow_domain::key::KeyReference;
use omniflow_policy::time::UnixMillis;
use omniflow_store::anomalies::continues;
use omniflow_store::encoding::anomalies::{anomaly, anomaly_total, delivery};
use omniflow_store::encoding::{Columns, row_limit, saturated, to_json, to_millis};
use omniflow_store::{AnomalyStore, AnomalyWrites, ChangedHour, Delivery, EvaluationCursor, Result};
use sqlx::{Postgres, QueryBuilder};

use crate::PostgresStore;
use crate::text::storable;
use crate::transaction::PostgresTransaction;

const COLUMNS: &str = "SELECT id, kind, key_id, key_name, first_time, last_time, evidence FROM anomalies ";

#[async_trait]
impl AnomalyStore for PostgresStore {
    async fn anomalies(
        &self,
        filter: &AnomalyFilter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Anomaly>> {
        let mut query = QueryBuilder::<Postgres>::new(COLUMNS);
        query.push("WHERE id < ").push_bind(before.unwrap_or(i64::MAX));
        match &filter.key {
            Some(KeyReference::Id(id)) => drop(query.push(" AND key_id = ").push_bind(*id)),
            Some(KeyReference::Name(name)) => drop(query.push(" AND key_name = ").push_bind(storable(name))),
            None => {}
        }
        if let Some(kind) = filter.kind {
            query.push(" AND kind = ").push_bind(kind.as_str());
        }
        if let Some(from) = filter.from {
            query.push(" AND last_time >= ").push_bind(to_millis(from));
        }
        if let Some(to) = filter.to {
            query.push(" AND first_time < ").push_bind(to_millis(to));
        }
        query.push(" ORDER BY id DESC LIMIT ").push_bind(row_limit(limit));
        let rows = self.database.reader().await?.rows(query.build()).await?;
        rows.iter().map(anomaly).collect()
    }

    async fn anomaly_totals(&self) -> Result<Vec<(AnomalyKind, u64)>> {
        let query = sqlx::query("SELECT kind, total FROM anomaly_totals");
        let rows = self.database.reader().await?.rows(query).await?;
        rows.iter().map(anomaly_total).collect()
    }

    async fn waiting_deliveries(&self) -> Result<u64> {
        let query = sqlx::query("SELECT count(*) FROM deliveries");
        let row = self.database.reader().await?.row(query).await?;
        row.column(0)
    }

    async fn due_deliveries(&self, now: UnixMillis, limit: usize) -> Result<Vec<Delivery>> {
        let query = sqlx::query(
            "SELECT id, kind, key_id, key_name, first_time, last_time, evidence, since, attempts \
             FROM deliveries JOIN anomalies ON id = anomaly_id WHERE next_time <= $1 \
             ORDER BY next_time, anomaly_id LIMIT $2",
        )
        .bind(to_millis(now))
        .bind(row_limit(limit));
        let rows = self.database.reader().await?.rows(query).await?;
        rows.iter().map(delivery).collect()
    }

    async fn changed_hours(&self, cursor: &mut EvaluationCursor, limit: usize) -> Result<Vec<ChangedHour>> {
        hours::changed_hours(&mut *self.database.reader().await?, cursor, limit).await
    }

    async fn history(&self, present: &mut Present) -> Result<History> {
        hours::history(&mut *self.database.reader().await?, present).await
    }
}

#[async_trait]
impl AnomalyWrites for PostgresTransaction {
    async fn record_detection(
        &mut self,
        detection: Detection,
        webhook_since: Option<UnixMillis>,
    ) -> Result<Option<Anomaly>> {
        let query = sqlx::AssertSqlSafe(format!(
            "{COLUMNS} WHERE key_id = $1 AND kind = $2 AND subject = $3 ORDER BY id DESC LIMIT 1"
        ));
        let query =
            sqlx::query(query).bind(detection.key_id).bind(detection.kind.as_str()).bind(detection.subject());
        let last = self.connection().optional_row(query).await?.as_ref().map(anomaly).transpose()?;
        match last.filter(|last| continues(last, &detection)) {
            Some(mut anomaly) => {
                anomaly.detection.extend(detection);
                self.update_anomaly(&anomaly).await?;
                Ok(None)
            }
            None => self.insert_anomaly(detection, webhook_since).await.map(Some),
        }
    }

    async fn put_off_delivery(&mut self, anomaly: i64, attempts: u32, next: UnixMillis) -> Result<()> {
        let statement =
            sqlx::query("UPDATE deliveries SET attempts = $1, next_time = $2 WHERE anomaly_id = $3")
                .bind(i64::from(attempts))
                .bind(to_millis(next))
                .bind(anomaly);
        self.connection().execute(statement).await?;
        Ok(())
    }

    async fn end_delivery(&mut self, anomaly: i64) -> Result<()> {
        let statement = sqlx::query("DELETE FROM deliveries WHERE anomaly_id = $1").bind(anomaly);
        self.connection().execute(statement).await?;
        Ok(())
    }

    async fn mark_evaluated(&mut self, changed: &ChangedHour) -> Result<()> {
        let statement = match changed {
            ChangedHour::Hour(present) => sqlx::query(
                "UPDATE key_hours SET changed = false WHERE key_id = $1 AND hour = $2 AND calls = $3",
            )
            .bind(present.key_id)
            .bind(saturated(present.counts.hour))
            .bind(saturated(present.counts.calls)),
            ChangedHour::Ended(detection) => sqlx::query(
                "UPDATE key_ends SET changed = false \
                 WHERE key_id = $1 AND key_version = $2 AND reason = $3 AND calls = $4",
            )
            .bind(detection.key_id)
            .bind(detection.evidence.version.map(i32::from))
            .bind(detection.evidence.reason.clone())
            .bind(saturated(detection.evidence.observed)),
        };
        self.connection().execute(statement).await?;
        Ok(())
    }
}

impl PostgresTransaction {
    async fn update_anomaly(&mut self, anomaly: &Anomaly) -> Result<()> {
        let detection = &anomaly.detection;
        let statement = sqlx::query(
            "UPDATE anomalies SET key_name = $1, first_time = $2, last_time = $3, evidence = $4 WHERE id = $5",
        )
        .bind(storable(&detection.key_name))
        .bind(to_millis(detection.first))
        .bind(to_millis(detection.last))
        .bind(to_json(&detection.evidence, "evidence")?)
        .bind(anomaly.id);
        self.connection().execute(statement).await?;
        Ok(())
    }

    async fn insert_anomaly(
        &mut self,
        detection: Detection,
        webhook_since: Option<UnixMillis>,
    ) -> Result<Anomaly> {
        let statement = sqlx::query(
            "INSERT INTO anomalies (kind, key_id, subject, key_name, first_time, last_time, evidence) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id",
        )
        .bind(detection.kind.as_str())
        .bind(detection.key_id)
        .bind(detection.subject())
        .bind(storable(&detection.key_name))
        .bind(to_millis(detection.first))
        .bind(to_millis(detection.last))
        .bind(to_json(&detection.evidence, "evidence")?);
        let id = self.connection().row(statement).await?.column(0)?;
        let statement = sqlx::query(
            "INSERT INTO anomaly_totals AS stored (kind, total) VALUES ($1, 1) \
             ON CONFLICT (kind) DO UPDATE SET total = stored.total + 1",
        )
        .bind(detection.kind.as_str());
        self.connection().execute(statement).await?;
        if let Some(since) = webhook_since.map(to_millis) {
            let statement = sqlx::query(
                "INSERT INTO deliveries (anomaly_id, since, attempts, next_time) VALUES ($1, $2, 0, $2)",
            )
            .bind(id)
            .bind(since);
            self.connection().execute(statement).await?;
        }
        Ok(Anomaly { id, detection })
    }
}
