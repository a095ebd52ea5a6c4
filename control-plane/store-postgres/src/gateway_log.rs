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
use omniflow_store::{GatewayLogWrites, OpenGateway, Result};

use crate::text::storable;
use crate::transaction::PostgresTransaction;

#[async_trait]
impl GatewayLogWrites for PostgresTransaction {
    async fn lose_gateway(&mut self, lost: &OpenGateway, ended_at: UnixMillis) -> Result<Option<u64>> {
        let id =
            GatewayId { gateway: storable(&lost.id.gateway).into_owned(), incarnation: lost.id.incarnation };
        let Some(report) = self.last_report(&id).await? else { return Ok(None) };
        let streams = self.stream_ends(&id).await?;
        let Some(missing) = report.loss(lost, ended_at, &streams) else { return Ok(None) };
        let before = self.take_numbers(0, 1, Vec::new()).await?.before_gaps;
        self.insert_gaps(&id, None, before, std::slice::from_ref(&missing)).await?;
        self.set_calls_of_gateway_lost(&id, true).await?;
        let statement =
            sqlx::query("UPDATE audit_gateways SET gap = $1 WHERE gateway = $2 AND incarnation = $3")
                .bind(before.saturating_add(1))
                .bind(&id.gateway)
                .bind(String::from(id.incarnation));
        self.connection().execute(statement).await?;
        Ok(Some(missing.calls))
    }
}

impl PostgresTransaction {
    /// Stores the progress report of a gateway, unless a later one is stored. If the gateway counted as lost, its gap is
    /// withdrawn and its number returned.
    pub(crate) async fn record_report(
        &mut self,
        source: &AuditSource,
        progress: &DeliveryReport,
        heard_at: UnixMillis,
    ) -> Result<Option<i64>> {
        let id = GatewayId { gateway: source.gateway.clone(), incarnation: source.incarnation };
        let known = self.last_report(&id).await?;
        let gap = known.as_ref().and_then(|known| known.gap);
        if let Some(gap) = gap {
            self.withdraw_gap(gap).await?;
            self.set_calls_of_gateway_lost(&id, false).await?;
        }
        self.set_last_report(&id, &LastReport::after(known, progress, heard_at)).await?;
        Ok(gap)
    }

    async fn last_report(&mut self, id: &GatewayId) -> Result<Option<LastReport>> {
        let query = sqlx::query(
            "SELECT clock, time, heard_at, quiescent, vms, gap FROM audit_gateways \
             WHERE gateway = $1 AND incarnation = $2",
        )
        .bind(&id.gateway)
        .bind(String::from(id.incarnation));
        let row = self.connection().optional_row(query).await?;
        row.as_ref().map(last_report).transpose()
    }

    async fn set_last_report(&mut self, id: &GatewayId, report: &LastReport) -> Result<()> {
        let vms = to_json(&report.vms, "progress")?;
        let statement = sqlx::query(
            "INSERT INTO audit_gateways (gateway, incarnation, clock, time, heard_at, quiescent, vms, gap) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (gateway, incarnation) DO UPDATE \
             SET clock = excluded.clock, time = excluded.time, heard_at = excluded.heard_at, \
             quiescent = excluded.quiescent, vms = excluded.vms, gap = excluded.gap",
        )
        .bind(&id.gateway)
        .bind(String::from(id.incarnation))
        .bind(saturated(report.clock))
        .bind(to_millis(report.time))
        .bind(to_millis(report.heard_at))
        .bind(report.is_quiescent)
        .bind(vms)
        .bind(report.gap);
        self.connection().execute(statement).await?;
        Ok(())
    }

    async fn stream_ends(&mut self, id: &GatewayId) -> Result<HashMap<Incarnation, StreamEnd>> {
        let query = sqlx::query(
            "SELECT vm, next_sequence, since FROM audit_streams WHERE gateway = $1 AND incarnation = $2",
        )
        .bind(&id.gateway)
        .bind(String::from(id.incarnation));
        self.connection().rows(query).await?.iter().map(stream_end).collect()
    }
}
