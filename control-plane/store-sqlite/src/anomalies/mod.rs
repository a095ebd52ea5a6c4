//! Anomalies, and their delivery to the webhook.

mod hours;

use omniflow_policy::time::UnixMillis;
use sqlx::{QueryBuilder, Sqlite};

use omniflow_domain::anomaly::{Anomaly, AnomalyKind, Detection};
use omniflow_domain::detection::{History, Present};

use async_trait::async_trait;
use omniflow_domain::anomaly::AnomalyFilter;
use omniflow_domain::key::KeyReference;
use omniflow_store::anomalies::continues;
use omniflow_store::encoding::anomalies::{anomaly, anomaly_total, delivery};
use omniflow_store::encoding::{Columns, row_limit, saturated, to_json, to_millis};
use omniflow_store::{
    AnomalyStore, AnomalyWrites, ChangedHour, Delivery, EvaluationCursor, Result, StoreError,
};

use crate::SqliteStore;
use crate::database::SqliteTransaction;

const COLUMNS: &str = "SELECT id, kind, key_id, key_name, first_time, last_time, evidence FROM anomalies ";

#[async_trait]
impl AnomalyStore for SqliteStore {
    async fn anomalies(
        &self,
        filter: &AnomalyFilter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Anomaly>> {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        query.push("WHERE id < ").push_bind(before.unwrap_or(i64::MAX));
        match &filter.key {
            Some(KeyReference::Id(id)) => drop(query.push(" AND key_id = ").push_bind(*id)),
            Some(KeyReference::Name(name)) => drop(query.push(" AND key_name = ").push_bind(name.clone())),
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
        let rows =
            query.build().fetch_all(&mut *self.audit.reader().await?).await.map_err(StoreError::backend)?;
        rows.iter().map(anomaly).collect()
    }

    async fn anomaly_totals(&self) -> Result<Vec<(AnomalyKind, u64)>> {
        let rows = sqlx::query("SELECT kind, total FROM anomaly_totals")
            .fetch_all(&mut *self.audit.reader().await?)
            .await
            .map_err(StoreError::backend)?;
        rows.iter().map(anomaly_total).collect()
    }

    async fn waiting_deliveries(&self) -> Result<u64> {
        let row = sqlx::query("SELECT count(*) FROM deliveries")
            .fetch_one(&mut *self.audit.reader().await?)
            .await
            .map_err(StoreError::backend)?;
        row.column(0)
    }

    async fn due_deliveries(&self, now: UnixMillis, limit: usize) -> Result<Vec<Delivery>> {
        let rows = sqlx::query(
            "SELECT id, kind, key_id, key_name, first_time, last_time, evidence, since, attempts \
             FROM deliveries JOIN anomalies ON id = anomaly_id WHERE next_time <= ? ORDER BY next_time LIMIT ?",
        )
        .bind(to_millis(now))
        .bind(row_limit(limit))
        .fetch_all(&mut *self.audit.reader().await?)
        .await
        .map_err(StoreError::backend)?;
        rows.iter().map(delivery).collect()
    }

    async fn changed_hours(&self, cursor: &mut EvaluationCursor, limit: usize) -> Result<Vec<ChangedHour>> {
        hours::changed_hours(&mut *self.audit.reader().await?, cursor, limit).await
    }

    async fn history(&self, present: &mut Present) -> Result<History> {
        hours::history(&mut *self.audit.reader().await?, present).await
    }
}

#[async_trait]
impl AnomalyWrites for SqliteTransaction {
    async fn record_detection(
        &mut self,
        detection: Detection,
        webhook_since: Option<UnixMillis>,
    ) -> Result<Option<Anomaly>> {
        let statement = sqlx::AssertSqlSafe(format!(
            "{COLUMNS} WHERE key_id = ? AND kind = ? AND subject = ? ORDER BY id DESC LIMIT 1"
        ));
        let last = sqlx::query(statement)
            .bind(detection.key_id)
            .bind(detection.kind.as_str())
            .bind(detection.subject())
            .fetch_optional(self.connection())
            .await
            .map_err(StoreError::backend)?;
        let last = last.as_ref().map(anomaly).transpose()?;
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
        sqlx::query("UPDATE deliveries SET attempts = ?, next_time = ? WHERE anomaly_id = ?")
            .bind(saturated(attempts.into()))
            .bind(to_millis(next))
            .bind(anomaly)
            .execute(self.connection())
            .await
            .map_err(StoreError::backend)?;
        Ok(())
    }

    async fn end_delivery(&mut self, anomaly: i64) -> Result<()> {
        sqlx::query("DELETE FROM deliveries WHERE anomaly_id = ?")
            .bind(anomaly)
            .execute(self.connection())
            .await
            .map_err(StoreError::backend)?;
        Ok(())
    }

    async fn mark_evaluated(&mut self, changed: &ChangedHour) -> Result<()> {
        let statement = match changed {
            ChangedHour::Hour(present) => sqlx::query(
                "UPDATE key_hours SET changed = 0 WHERE key_id = ? AND hour = ? AND calls = ?",
            )
            .bind(present.key_id)
            .bind(saturated(present.counts.hour))
            .bind(saturated(present.counts.calls)),
            ChangedHour::Ended(detection) => sqlx::query(
                "UPDATE key_ends SET changed = 0 WHERE key_id = ? AND key_version = ? AND reason = ? AND calls = ?",
            )
            .bind(detection.key_id)
            .bind(detection.evidence.version)
            .bind(detection.evidence.reason.clone())
            .bind(saturated(detection.evidence.observed)),
        };
        statement.execute(self.connection()).await.map_err(StoreError::backend)?;
        Ok(())
    }
}

impl SqliteTransaction {
    async fn update_anomaly(&mut self, anomaly: &Anomaly) -> Result<()> {
        let detection = &anomaly.detection;
        sqlx::query(
            "UPDATE anomalies SET key_name = ?, first_time = ?, last_time = ?, evidence = ? WHERE id = ?",
        )
        .bind(detection.key_name.clone())
        .bind(to_millis(detection.first))
        .bind(to_millis(detection.last))
        .bind(to_json(&detection.evidence, "evidence")?)
        .bind(anomaly.id)
        .execute(self.connection())
        .await
        .map_err(StoreError::backend)?;
        Ok(())
    }

    async fn insert_anomaly(
        &mut self,
        detection: Detection,
        webhook_since: Option<UnixMillis>,
    ) -> Result<Anomaly> {
        let inserted = sqlx::query(
            "INSERT INTO anomalies (kind, key_id, subject, key_name, first_time, last_time, evidence) \
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(detection.kind.as_str())
        .bind(detection.key_id)
        .bind(detection.subject())
        .bind(detection.key_name.clone())
        .bind(to_millis(detection.first))
        .bind(to_millis(detection.last))
        .bind(to_json(&detection.evidence, "evidence")?)
        .execute(self.connection())
        .await
        .map_err(StoreError::backend)?;
        let id = inserted.last_insert_rowid();
        sqlx::query(
            "INSERT INTO anomaly_totals (kind, total) VALUES (?, 1) ON CONFLICT DO UPDATE SET total = total + 1",
        )
        .bind(detection.kind.as_str())
        .execute(self.connection())
        .await
        .map_err(StoreError::backend)?;
        if let Some(since) = webhook_since.map(to_millis) {
            sqlx::query(
                "INSERT INTO deliveries (anomaly_id, since, attempts, next_time) VALUES (?, ?, 0, ?)",
            )
            .bind(id)
            .bind(since)
            .bind(since)
            .execute(self.connection())
            .await
            .map_err(StoreError::backend)?;
        }
        Ok(Anomaly { id, detection })
    }
}
