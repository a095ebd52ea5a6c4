//! How far each run of a gateway's process has come with its records, and what is missing when one is gone.

use std::collections::HashMap;

use omniflow_policy::audit::{AuditSource, DeliveryReport, VmDelivery};
use omniflow_policy::gateway::Incarnation;
use omniflow_policy::time::UnixMillis;
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::audit_ingest::{MAX_MISSING, Missing};
use super::columns::{from_millis, row_limit, saturated, to_millis};
use super::{Database, Result, StorageError, Transaction};
use crate::fleet::GatewayId;
use crate::model::audit::GapCause;

/// A run of a gateway's process of which it is not known that all its records have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenGateway {
    /// Which one.
    pub(crate) id: GatewayId,
    /// When its last word came.
    pub(crate) heard_at: UnixMillis,
}

/// The last word of a run of a gateway's process, as it is kept.
struct LastWord {
    clock: u64,
    time: UnixMillis,
    heard_at: UnixMillis,
    is_settled: bool,
    vms: Vec<KnownVm>,
    gap: Option<i64>,
}

/// What is known of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KnownVm {
    id: Incarnation,
    begun: u64,
    /// When it held no call, the last time that this was told.
    clear_at: Option<UnixMillis>,
}

/// How far the records of a VM have come.
struct StreamEnd {
    next_sequence: u64,
    since: Option<UnixMillis>,
}

impl Database {
    /// At most `limit` gateways that are not settled and do not count as lost, those heard of longest ago first.
    pub(crate) async fn open_gateways(&self, limit: usize) -> Result<Vec<OpenGateway>> {
        let rows = sqlx::query(
            "SELECT gateway, incarnation, heard_at FROM audit_gateways WHERE settled = 0 AND gap IS NULL \
             ORDER BY heard_at LIMIT ?",
        )
        .bind(row_limit(limit))
        .fetch_all(&mut *self.reader().await?)
        .await?;
        let open = |row: &SqliteRow| {
            Ok(OpenGateway {
                id: GatewayId { gateway: row.try_get(0)?, incarnation: incarnation(row.try_get(1)?)? },
                heard_at: from_millis(row.try_get(2)?),
            })
        };
        rows.iter().map(open).collect()
    }

    /// The runs of gateways' processes of which no call came that began at `before` or later.
    pub(crate) async fn quiet_streams(&self, before: UnixMillis) -> Result<Vec<GatewayId>> {
        let rows = sqlx::query(
            "SELECT gateway, incarnation FROM audit_streams GROUP BY gateway, incarnation \
             HAVING max(last_time) < ?",
        )
        .bind(to_millis(before))
        .fetch_all(&mut *self.reader().await?)
        .await?;
        rows.iter()
            .map(|row| Ok(GatewayId { gateway: row.try_get(0)?, incarnation: incarnation(row.try_get(1)?)? }))
            .collect()
    }

    /// Forgets how far the records of these runs have come, unless some came that began at `before` or later.
    pub(crate) async fn forget_streams(&self, runs: &[GatewayId], before: UnixMillis) -> Result<()> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin().await?;
        for run in runs {
            sqlx::query("DELETE FROM audit_streams WHERE gateway = ? AND incarnation = ? AND last_time < ?")
                .bind(run.gateway.clone())
                .bind(String::from(run.incarnation))
                .bind(to_millis(before))
                .execute(transaction.connection())
                .await?;
        }
        transaction.commit().await
    }
}

#[cfg(test)]
impl Database {
    /// How many gateways are remembered.
    pub(crate) async fn known_gateways(&self) -> Result<i64> {
        let row =
            sqlx::query("SELECT count(*) FROM audit_gateways").fetch_one(&mut *self.reader().await?).await?;
        Ok(row.try_get(0)?)
    }
}

impl Transaction<'_> {
    /// Keeps the word of a gateway, unless a later one is kept. A gateway that counted as lost is none: its gap is
    /// withdrawn, and its number given.
    pub(super) async fn note_progress(
        &mut self,
        source: &AuditSource,
        progress: &DeliveryReport,
        heard_at: UnixMillis,
    ) -> Result<Option<i64>> {
        let known = self.last_word(&source.gateway, source.incarnation).await?;
        let gap = known.as_ref().and_then(|known| known.gap);
        if let Some(gap) = gap {
            self.withdraw_gap(gap).await?;
        }
        let word = match known {
            Some(known) if known.clock > progress.clock => LastWord { heard_at, gap: None, ..known },
            known => LastWord::new(progress, heard_at, known.as_ref()),
        };
        self.set_last_word(source, &word).await?;
        Ok(gap)
    }

    /// Notes that a gateway is gone, with what it had not delivered, if nothing was heard of it since. `ended_at` is when
    /// it had ended at the latest. Gives the gap: how many calls are known to be missing, which may be none.
    pub(crate) async fn lose_gateway(
        &mut self,
        lost: &OpenGateway,
        ended_at: UnixMillis,
    ) -> Result<Option<u64>> {
        let OpenGateway { id, heard_at } = lost;
        let word = self.last_word(&id.gateway, id.incarnation).await?;
        let is_open = |word: &LastWord| word.heard_at == *heard_at && !word.is_settled && word.gap.is_none();
        let Some(word) = word.filter(is_open) else { return Ok(None) };
        let streams = self.stream_ends(id).await?;
        let mut missing = word.missing(&streams);
        // The end by the gateway's clock, as all other times of its calls are.
        missing.to = UnixMillis(word.time.0.saturating_add(ended_at.0.saturating_sub(heard_at.0)));
        missing.from = missing.from.map(|from| from.min(missing.to));
        let gap = self.insert_gap(&id.gateway, id.incarnation, None, &missing).await?;
        sqlx::query("UPDATE audit_gateways SET gap = ? WHERE gateway = ? AND incarnation = ?")
            .bind(gap)
            .bind(id.gateway.clone())
            .bind(String::from(id.incarnation))
            .execute(self.connection())
            .await?;
        Ok(Some(missing.calls))
    }

    async fn last_word(&mut self, gateway: &str, run: Incarnation) -> Result<Option<LastWord>> {
        let row = sqlx::query(
            "SELECT clock, time, heard_at, settled, vms, gap FROM audit_gateways WHERE gateway = ? AND incarnation = ?",
        )
        .bind(gateway.to_owned())
        .bind(String::from(run))
        .fetch_optional(self.connection())
        .await?;
        row.map(|row| {
            Ok(LastWord {
                clock: row.try_get::<i64, _>(0)?.cast_unsigned(),
                time: from_millis(row.try_get(1)?),
                heard_at: from_millis(row.try_get(2)?),
                is_settled: row.try_get(3)?,
                vms: serde_json::from_str(row.try_get(4)?).map_err(|_| StorageError::Corrupt("progress"))?,
                gap: row.try_get(5)?,
            })
        })
        .transpose()
    }

    async fn set_last_word(&mut self, source: &AuditSource, word: &LastWord) -> Result<()> {
        let vms = serde_json::to_string(&word.vms).map_err(|_| StorageError::Corrupt("progress"))?;
        sqlx::query(
            "INSERT OR REPLACE INTO audit_gateways (gateway, incarnation, clock, time, heard_at, settled, vms, gap) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(source.gateway.clone())
        .bind(String::from(source.incarnation))
        .bind(saturated(word.clock))
        .bind(to_millis(word.time))
        .bind(to_millis(word.heard_at))
        .bind(word.is_settled)
        .bind(vms)
        .bind(word.gap)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    async fn stream_ends(&mut self, id: &GatewayId) -> Result<HashMap<Incarnation, StreamEnd>> {
        let rows = sqlx::query(
            "SELECT vm, next_sequence, since FROM audit_streams WHERE gateway = ? AND incarnation = ?",
        )
        .bind(id.gateway.clone())
        .bind(String::from(id.incarnation))
        .fetch_all(self.connection())
        .await?;
        let end = |row: &SqliteRow| {
            let next_sequence = row.try_get::<i64, _>(1)?.cast_unsigned();
            let since = row.try_get::<Option<i64>, _>(2)?.map(from_millis);
            Ok((incarnation(row.try_get(0)?)?, StreamEnd { next_sequence, since }))
        };
        rows.iter().map(end).collect()
    }
}

fn incarnation(text: String) -> Result<Incarnation> {
    Incarnation::try_from(text).map_err(|_| StorageError::Corrupt("an incarnation"))
}

// === impl LastWord ===

impl LastWord {
    /// A word, with what is known from before of VMs that it names.
    fn new(progress: &DeliveryReport, heard_at: UnixMillis, before: Option<&Self>) -> Self {
        let known: HashMap<Incarnation, &KnownVm> =
            before.into_iter().flat_map(|before| &before.vms).map(|vm| (vm.id, vm)).collect();
        Self {
            clock: progress.clock,
            time: progress.at,
            heard_at,
            is_settled: progress.quiescent,
            vms: progress.vms.iter().map(|vm| KnownVm::new(vm, known.get(&vm.id).copied())).collect(),
            gap: None,
        }
    }

    /// The calls that have begun and not come. Those that began after this word are not known of.
    fn missing(&self, streams: &HashMap<Incarnation, StreamEnd>) -> Missing {
        let calls = self.vms.iter().fold(0, |sum: u64, vm| {
            let told = streams.get(&vm.id).map_or(0, |end| end.next_sequence);
            sum.saturating_add(vm.begun.saturating_sub(told))
        });
        // What is missing of a VM began after it held nothing, and after the first call of its last batch, unless it
        // took longer than all that came with it.
        let since = |vm: &KnownVm| vm.clear_at.max(streams.get(&vm.id).and_then(|end| end.since));
        // None comes before all others: nobody knows since when.
        let from = self.vms.iter().map(since).min().flatten();
        Missing {
            calls: calls.min(MAX_MISSING),
            cause: GapCause::GatewayLost,
            from,
            to: self.time,
            is_least: true,
        }
    }
}

// === impl KnownVm ===

impl KnownVm {
    fn new(told: &VmDelivery, before: Option<&Self>) -> Self {
        let clear_at = if told.is_drained() { Some(told.at) } else { before.and_then(|vm| vm.clear_at) };
        Self { id: told.id, begun: told.begun.max(before.map_or(0, |vm| vm.begun)), clear_at }
    }
}
