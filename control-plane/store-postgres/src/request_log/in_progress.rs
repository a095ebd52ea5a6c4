//! Calls that have not ended.

use omniflow_domain::audit::CallInProgress;
use omniflow_domain::gateway::GatewayId;
use omniflow_domain::key::KeyReference;
use omniflow_policy::audit::AuditSource;
use omniflow_store::encoding::request_log::call_in_progress;
use omniflow_store::encoding::{address_bytes, row_limit, saturated, to_millis};
use omniflow_store::ingest::Arrival;
use omniflow_store::{MAX_CALLS_IN_PROGRESS, Result};
use sqlx::{Postgres, QueryBuilder};

use crate::database::Database;
use crate::text::storable;
use crate::transaction::PostgresTransaction;

const COLUMNS: &str = "SELECT id, time, gateway, key_id, key_name, key_version, environment, method, endpoint, path, \
     status, source_ip, request_id, lost FROM calls_in_progress ";

impl Database {
    pub(crate) async fn calls_in_progress(
        &self,
        key: Option<&KeyReference>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<CallInProgress>> {
        let mut query = QueryBuilder::<Postgres>::new(COLUMNS);
        query.push("WHERE id < ").push_bind(before.unwrap_or(i64::MAX));
        match key {
            Some(KeyReference::Id(id)) => {
                query.push(" AND key_id = ").push_bind(*id);
            }
            Some(KeyReference::Name(name)) => {
                query.push(" AND key_name = ").push_bind(storable(name));
            }
            None => {}
        }
        query.push(" ORDER BY id DESC LIMIT ").push_bind(row_limit(limit));
        let rows = self.scanner().await?.rows(query.build()).await?;
        rows.iter().map(call_in_progress).collect()
    }
}

impl PostgresTransaction {
    /// Stores the calls of a batch that are in progress, and removes those that have ended.
    pub(crate) async fn update_calls_in_progress(
        &mut self,
        source: &AuditSource,
        arrival: &Arrival<'_>,
    ) -> Result<()> {
        if !arrival.in_progress.is_empty() {
            self.insert_calls_in_progress(source, arrival).await?;
            self.remove_oldest_calls_in_progress().await?;
        }
        if arrival.ended.is_empty() {
            return Ok(());
        }
        let statement = sqlx::query(
            "DELETE FROM calls_in_progress WHERE gateway = $1 AND incarnation = $2 AND vm = $3 \
             AND number = ANY($4)",
        )
        .bind(&source.gateway)
        .bind(String::from(source.incarnation))
        .bind(String::from(source.vm))
        .bind(arrival.ended.iter().map(|end| saturated(end.number)).collect::<Vec<_>>());
        self.connection().execute(statement).await?;
        Ok(())
    }

    async fn insert_calls_in_progress(&mut self, source: &AuditSource, arrival: &Arrival<'_>) -> Result<()> {
        let calls = &arrival.in_progress;
        let keys = || calls.iter().map(|call| call.record.key.as_ref());
        let records = || calls.iter().map(|call| &call.record);
        let statement = sqlx::query(
            "INSERT INTO calls_in_progress (gateway, incarnation, vm, number, time, key_id, key_name, key_version, \
             environment, method, endpoint, path, status, source_ip, request_id) \
             SELECT $1, $2, $3, number, time, key_id, key_name, key_version, environment, method, endpoint, path, status, \
             source_ip, request_id FROM unnest($4::bigint[], $5::bigint[], $6::uuid[], $7::text[], $8::integer[], \
             $9::text[], $10::text[], $11::text[], $12::text[], $13::integer[], $14::bytea[], $15::text[]) WITH ORDINALITY \
             AS call (number, time, key_id, key_name, key_version, environment, method, endpoint, path, status, source_ip, \
             request_id, n) ORDER BY n ON CONFLICT (gateway, incarnation, vm, number) DO NOTHING",
        )
        .bind(&source.gateway)
        .bind(String::from(source.incarnation))
        .bind(String::from(source.vm))
        .bind(calls.iter().map(|call| saturated(call.number)).collect::<Vec<_>>())
        .bind(records().map(|record| to_millis(record.time)).collect::<Vec<_>>())
        .bind(keys().map(|key| key.map(|key| key.id)).collect::<Vec<_>>())
        .bind(keys().map(|key| key.map(|key| storable(&key.name))).collect::<Vec<_>>())
        .bind(keys().map(|key| key.map(|key| i32::from(key.version))).collect::<Vec<_>>())
        .bind(keys().map(|key| key.map(|key| key.environment.as_str())).collect::<Vec<_>>())
        .bind(records().map(|record| storable(&record.method)).collect::<Vec<_>>())
        .bind(records().map(|record| record.endpoint.as_deref().map(storable)).collect::<Vec<_>>())
        .bind(records().map(|record| storable(&record.path)).collect::<Vec<_>>())
        .bind(records().map(|record| i32::from(record.status)).collect::<Vec<_>>())
        .bind(records().map(|record| record.source_ip.map(address_bytes)).collect::<Vec<_>>())
        .bind(records().map(|record| storable(&record.request_id)).collect::<Vec<_>>());
        self.connection().execute(statement).await?;
        Ok(())
    }

    async fn remove_oldest_calls_in_progress(&mut self) -> Result<()> {
        let statement = sqlx::query(
            "DELETE FROM calls_in_progress WHERE id <= \
             (SELECT id FROM calls_in_progress ORDER BY id DESC LIMIT 1 OFFSET $1)",
        )
        .bind(row_limit(MAX_CALLS_IN_PROGRESS));
        self.connection().execute(statement).await?;
        Ok(())
    }

    /// Marks the calls of a VM that has ended without reporting their ends.
    pub(crate) async fn mark_calls_of_vm_lost(&mut self, source: &AuditSource) -> Result<()> {
        let statement = sqlx::query(
            "UPDATE calls_in_progress SET lost = 'vm' WHERE gateway = $1 AND incarnation = $2 AND vm = $3",
        )
        .bind(&source.gateway)
        .bind(String::from(source.incarnation))
        .bind(String::from(source.vm));
        self.connection().execute(statement).await?;
        Ok(())
    }

    /// Marks the calls of a gateway that counts as lost, or as live again.
    pub(crate) async fn set_calls_of_gateway_lost(&mut self, id: &GatewayId, is_lost: bool) -> Result<()> {
        let (from, to) = if is_lost { (None, Some("gateway")) } else { (Some("gateway"), None) };
        let statement = sqlx::query(
            "UPDATE calls_in_progress SET lost = $1 WHERE gateway = $2 AND incarnation = $3 \
             AND lost IS NOT DISTINCT FROM $4",
        )
        .bind(to)
        .bind(&id.gateway)
        .bind(String::from(id.incarnation))
        .bind(from);
        self.connection().execute(statement).await?;
        Ok(())
    }
}
