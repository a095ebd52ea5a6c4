//! Calls that have not ended.

use omniflow_domain::audit::CallInProgress;
use omniflow_domain::gateway::GatewayId;
use omniflow_domain::key::KeyReference;
use omniflow_policy::audit::AuditSource;
use omniflow_store::encoding::request_log::call_in_progress;
use omniflow_store::encoding::{address_bytes, row_limit, saturated, to_millis};
use omniflow_store::ingest::Arrival;
use omniflow_store::{MAX_CALLS_IN_PROGRESS, Result, StoreError};
use sqlx::{QueryBuilder, Sqlite};

use crate::database::{Database, SqliteTransaction};

const COLUMNS: &str = "SELECT id, time, gateway, key_id, key_name, key_version, environment, method, endpoint, path, \
     status, source_ip, request_id, lost FROM calls_in_progress ";

impl Database {
    pub(crate) async fn calls_in_progress(
        &self,
        key: Option<&KeyReference>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<CallInProgress>> {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        query.push("WHERE id < ").push_bind(before.unwrap_or(i64::MAX));
        match key {
            Some(KeyReference::Id(id)) => {
                query.push(" AND key_id = ").push_bind(*id);
            }
            Some(KeyReference::Name(name)) => {
                query.push(" AND key_name = ").push_bind(name.clone());
            }
            None => {}
        }
        query.push(" ORDER BY id DESC LIMIT ").push_bind(row_limit(limit));
        let rows = query.build().fetch_all(&mut *self.scanner().await?).await.map_err(StoreError::backend)?;
        rows.iter().map(call_in_progress).collect()
    }
}

impl SqliteTransaction {
    /// Stores the calls of a batch that are in progress, and removes those that have ended.
    pub(crate) async fn update_calls_in_progress(
        &mut self,
        source: &AuditSource,
        arrival: &Arrival<'_>,
    ) -> Result<()> {
        for call in &arrival.in_progress {
            let (number, record) = (call.number, &call.record);
            let key = record.key.as_ref();
            sqlx::query(
                "INSERT OR IGNORE INTO calls_in_progress (gateway, incarnation, vm, number, time, key_id, key_name, \
                 key_version, environment, method, endpoint, path, status, source_ip, request_id) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(source.gateway.clone())
            .bind(String::from(source.incarnation))
            .bind(String::from(source.vm))
            .bind(saturated(number))
            .bind(to_millis(record.time))
            .bind(key.map(|key| key.id))
            .bind(key.map(|key| key.name.clone()))
            .bind(key.map(|key| key.version))
            .bind(key.map(|key| key.environment.as_str()))
            .bind(record.method.clone())
            .bind(record.endpoint.clone())
            .bind(record.path.clone())
            .bind(record.status)
            .bind(record.source_ip.map(address_bytes))
            .bind(record.request_id.clone())
            .execute(self.connection())
            .await
            .map_err(StoreError::backend)?;
        }
        if !arrival.in_progress.is_empty() {
            sqlx::query(
                "DELETE FROM calls_in_progress WHERE id IN \
                 (SELECT id FROM calls_in_progress ORDER BY id DESC LIMIT -1 OFFSET ?)",
            )
            .bind(row_limit(MAX_CALLS_IN_PROGRESS))
            .execute(self.connection())
            .await
            .map_err(StoreError::backend)?;
        }
        for end in &arrival.ended {
            sqlx::query(
                "DELETE FROM calls_in_progress WHERE gateway = ? AND incarnation = ? AND vm = ? AND number = ?",
            )
            .bind(source.gateway.clone())
            .bind(String::from(source.incarnation))
            .bind(String::from(source.vm))
            .bind(saturated(end.number))
            .execute(self.connection())
            .await
            .map_err(StoreError::backend)?;
        }
        Ok(())
    }

    /// Marks the calls of a VM that has ended without reporting their ends.
    pub(crate) async fn mark_calls_of_vm_lost(&mut self, source: &AuditSource) -> Result<()> {
        sqlx::query(
            "UPDATE calls_in_progress SET lost = 'vm' WHERE gateway = ? AND incarnation = ? AND vm = ?",
        )
        .bind(source.gateway.clone())
        .bind(String::from(source.incarnation))
        .bind(String::from(source.vm))
        .execute(self.connection())
        .await
        .map_err(StoreError::backend)?;
        Ok(())
    }

    /// Marks the calls of a gateway that counts as lost, or as live again.
    pub(crate) async fn set_calls_of_gateway_lost(&mut self, id: &GatewayId, is_lost: bool) -> Result<()> {
        let (from, to) = if is_lost { (None, Some("gateway")) } else { (Some("gateway"), None) };
        sqlx::query(
            "UPDATE calls_in_progress SET lost = ? WHERE gateway = ? AND incarnation = ? AND lost IS ?",
        )
        .bind(to)
        .bind(id.gateway.clone())
        .bind(String::from(id.incarnation))
        .bind(from)
        .execute(self.connection())
        .await
        .map_err(StoreError::backend)?;
        Ok(())
    }
}
