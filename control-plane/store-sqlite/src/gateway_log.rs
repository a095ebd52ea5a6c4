//! The delivery state of each run of a gateway's process, and the gap if one is lost.

use std::collections::HashMap;

use async_trait::async_trait;
use omniflow_domain::gateway::GatewayId;
use omniflow_policy::audit::{AuditSource, DeliveryReport};
use omniflow_policy::gateway::Incarnation;
use omniflow_policy::time::UnixMillis;
use omniflow_store::encoding::gateways::{last_report, stream_end};
use omniflow_store::encoding::{saturated, to_json, to_millis};
use omniflow_store::gateways::{LastReport, StreamEnd};
use omniflow_store::{GatewayLogWrites, OpenGateway, Result, StoreError};

use crate::database::SqliteTransaction;

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
        row.as_ref().map(last_report).transpose()
    }

    async fn set_last_report(&mut self, source: &AuditSource, report: &LastReport) -> Result<()> {
        let vms = to_json(&report.vms, "progress")?;
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
        rows.iter().map(stream_end).collect()
    }
}
