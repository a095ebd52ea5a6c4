//! The delivery state of each run of a gateway's process, and the gap if one is lost.

use std::collections::HashMap;

use async_trait::async_trait;
use omniflow_domain::gateway::GatewayId;
use omniflow_policy::audit::{AuditSource, DeliveryReport};
use omniflow_policy::gateway::Incarnation;
use omniflow_policy::time::UnixMillis;
use omniflow_store::gateways::{LastReport, StreamEnd};
use omniflow_store::{GatewayLogWrites, OpenGateway, Result, StoreError};
use sqlx::sqlite::SqliteRow;

use crate::columns::{Columns, from_millis, saturated, to_millis};
use crate::database::SqliteTransaction;
use crate::gateways::incarnation;

#[async_trait]
impl GatewayLogWrites for SqliteTransaction {
    async fn lose_gateway(&mut self, lost: &OpenGateway, ended_at: UnixMillis) -> Result<Option<u64>> {
        let id = &lost.id;
        let Some(report) = self.last_report(&id.gateway, id.incarnation).await? else { return Ok(None) };
        let streams = self.stream_ends(id).await?;
        let Some(missing) = report.loss(lost, ended_at, &streams) else { return Ok(None) };
        let gap = self.insert_gap(&id.gateway, id.incarnation, None, &missing).await?;
        self.set_calls_of_gateway_lost(id, true).await?;
        sqlx::query("UPDATE audit_gateways SET gap = ? WHERE gateway = ? AND incarnation = ?")
            .bind(gap)
            .bind(id.gateway.clone())
            .bind(String::from(id.incarnation))
            .execute(self.connection())
            .await
            .map_err(StoreError::backend)?;
        Ok(Some(missing.calls))
    }
}

impl SqliteTransaction {
    /// Stores the progress report of a gateway, unless a later one is stored. If the gateway counted as lost, its gap is
    /// withdrawn and its number returned.
    pub(crate) async fn record_report(
        &mut self,
        source: &AuditSource,
        progress: &DeliveryReport,
        heard_at: UnixMillis,
    ) -> Result<Option<i64>> {
        let known = self.last_report(&source.gateway, source.incarnation).await?;
        let gap = known.as_ref().and_then(|known| known.gap);
        if let Some(gap) = gap {
            self.withdraw_gap(gap).await?;
            let id = GatewayId { gateway: source.gateway.clone(), incarnation: source.incarnation };
            self.set_calls_of_gateway_lost(&id, false).await?;
        }
        self.set_last_report(source, &LastReport::after(known, progress, heard_at)).await?;
        Ok(gap)
    }

    async fn last_report(&mut self, gateway: &str, run: Incarnation) -> Result<Option<LastReport>> {
        let row = sqlx::query(
            "SELECT clock, time, heard_at, quiescent, vms, gap FROM audit_gateways WHERE gateway = ? AND incarnation = ?",
        )
        .bind(gateway.to_owned())
        .bind(String::from(run))
        .fetch_optional(self.connection())
        .await
        .map_err(StoreError::backend)?;
        row.map(|row| {
            Ok(LastReport {
                clock: row.column::<i64, _>(0)?.cast_unsigned(),
                time: from_millis(row.column(1)?),
                heard_at: from_millis(row.column(2)?),
                is_quiescent: row.column(3)?,
                vms: serde_json::from_str(row.column(4)?).map_err(|_| StoreError::Corrupt("progress"))?,
                gap: row.column(5)?,
            })
        })
        .transpose()
    }

    async fn set_last_report(&mut self, source: &AuditSource, report: &LastReport) -> Result<()> {
        let vms = serde_json::to_string(&report.vms).map_err(|_| StoreError::Corrupt("progress"))?;
        sqlx::query(
            "INSERT OR REPLACE INTO audit_gateways (gateway, incarnation, clock, time, heard_at, quiescent, vms, gap) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(source.gateway.clone())
        .bind(String::from(source.incarnation))
        .bind(saturated(report.clock))
        .bind(to_millis(report.time))
        .bind(to_millis(report.heard_at))
        .bind(report.is_quiescent)
        .bind(vms)
        .bind(report.gap)
        .execute(self.connection())
        .await
        .map_err(StoreError::backend)?;
        Ok(())
    }

    async fn stream_ends(&mut self, id: &GatewayId) -> Result<HashMap<Incarnation, StreamEnd>> {
        let rows = sqlx::query(
            "SELECT vm, next_sequence, since FROM audit_streams WHERE gateway = ? AND incarnation = ?",
        )
        .bind(id.gateway.clone())
        .bind(String::from(id.incarnation))
        .fetch_all(self.connection())
        .await
        .map_err(StoreError::backend)?;
        let end = |row: &SqliteRow| {
            let next_sequence = row.column::<i64, _>(1)?.cast_unsigned();
            let since = row.column::<Option<i64>, _>(2)?.map(from_millis);
            Ok((incarnation(row.column(0)?)?, StreamEnd { next_sequence, since }))
        };
        rows.iter().map(end).collect()
    }
}
