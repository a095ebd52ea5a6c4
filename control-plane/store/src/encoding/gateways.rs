//! Gateways, how much of their log has arrived, and the log exporter.

use omniflow_domain::gateway::{GatewayId, GatewayToken, Sighting};
use omniflow_policy::digest::Digest;
use omniflow_policy::gateway::Incarnation;
use uuid::Uuid;

use super::{Columns, from_json};
use crate::error::{Result, StoreError};
use crate::export::ExportPlace;
use crate::gateways::{LastReport, OpenGateway, StreamEnd};
use crate::ingest::StreamPlace;

/// The run of a gateway's process. Columns: gateway, incarnation.
pub fn gateway_id<B>(row: &impl Columns<B>) -> Result<GatewayId> {
    Ok(GatewayId { gateway: row.column(0)?, incarnation: incarnation(row.column(1)?)? })
}

fn incarnation(text: String) -> Result<Incarnation> {
    Incarnation::try_from(text).map_err(|_| StoreError::Corrupt("an incarnation"))
}

/// When a gateway was seen. Columns: gateway, incarnation, `first_seen_at`, `last_seen_at`, id and digest of the token,
/// `hung_up_at`, whether it is busy.
pub fn sighting<B>(row: &impl Columns<B>) -> Result<Sighting> {
    let token = row.column::<Option<Uuid>>(4)?.zip(row.column::<Option<Digest>>(5)?);
    Ok(Sighting {
        id: gateway_id(row)?,
        first_seen_at: row.column(2)?,
        last_seen_at: row.column(3)?,
        token: token.map(|(id, digest)| GatewayToken { id, digest }),
        hung_up_at: row.column(6)?,
        is_busy: row.column(7)?,
    })
}

/// A gateway with undelivered records. Columns: gateway, incarnation, `heard_at`.
pub fn open_gateway<B>(row: &impl Columns<B>) -> Result<OpenGateway> {
    Ok(OpenGateway { id: gateway_id(row)?, heard_at: row.column(2)? })
}

/// The last progress report. Columns: clock, time, `heard_at`, whether it is quiescent, VMs, gap.
pub fn last_report<B>(row: &impl Columns<B>) -> Result<LastReport> {
    Ok(LastReport {
        clock: row.column(0)?,
        time: row.column(1)?,
        heard_at: row.column(2)?,
        is_quiescent: row.column(3)?,
        vms: from_json(row.column(4)?, "progress")?,
        gap: row.column(5)?,
    })
}

/// The end of a VM's stream. Columns: VM, next sequence number, since when.
pub fn stream_end<B>(row: &impl Columns<B>) -> Result<(Incarnation, StreamEnd)> {
    Ok((incarnation(row.column(0)?)?, StreamEnd { next_sequence: row.column(1)?, since: row.column(2)? }))
}

/// The place in a VM's stream; its beginning without a row. Columns: next sequence number, time of the last item.
pub fn stream_place<B, R: Columns<B>>(row: Option<&R>) -> Result<StreamPlace> {
    let Some(row) = row else { return Ok(StreamPlace::default()) };
    Ok(StreamPlace { next_sequence: row.column(0)?, last_time: Some(row.column(1)?) })
}

/// The exporter's cursor. Columns: numbers of the record and the gap, exported, rejected and purged records.
pub fn export_place<B>(row: &impl Columns<B>) -> Result<ExportPlace> {
    Ok(ExportPlace {
        record: row.column(0)?,
        gap: row.column(1)?,
        exported: row.column(2)?,
        rejected: row.column(3)?,
        purged: row.column(4)?,
    })
}
