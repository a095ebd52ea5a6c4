//! Stores the audit records of gateways.

use std::collections::HashMap;
use std::sync::Arc;

use omniflow_policy::audit::{AuditBatch, AuditItem, AuditRecord, CallInProgress};
use omniflow_policy::policy::Policy;
use omniflow_policy::time::UnixMillis;

use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::gateway::GatewayId;
use omniflow_domain::payload::{SealedPayload, redact_text};
use omniflow_domain::token::Token;
use tokio::task::spawn_blocking;

use super::{GatewayProtocol, check_name};
use crate::run_to_completion;
use crate::vault::Binding;
use omniflow_store::{IngestError, Ingested};

/// The highest number that a call may have: the maximum of a database column.
const MAX_SEQUENCE: u64 = i64::MAX as u64 - 1;
/// How far a gateway's clock may be ahead of this one, in milliseconds. Later times are replaced with the current time.
const MAX_LEAD_MS: u64 = 5 * 60_000;

// === impl GatewayProtocol ===

impl GatewayProtocol {
    /// Stores an encoded batch, and returns once its records are on disk. A gateway that receives no response sends it
    /// again; records that are already stored are skipped.
    ///
    /// # Errors
    ///
    /// `invalid_batch`; `gateway_not_permitted` or `gateway_of_other_token` if the token may not act for this run.
    pub async fn ingest(self: &Arc<Self>, token: &Token, encoded: &[u8]) -> Result<(), Error> {
        let heard_at = self.clock.now();
        let batch = AuditBatch::decode(encoded).map_err(|error| invalid(error.to_string()))?;
        // A batch without items is small, and states that nothing is pending before a gateway ends.
        if !batch.items.is_empty() {
            self.space.admit_batch().await?;
        }
        check_name(&batch.source.gateway)?;
        let id = GatewayId { gateway: batch.source.gateway.clone(), incarnation: batch.source.incarnation };
        self.fleet.check_sender(token, &id)?;
        if let Some(progress) = &batch.delivery {
            self.fleet.note_progress(&id, progress.quiescent);
        }
        if batch.items.iter().any(|item| item.next_sequence() > MAX_SEQUENCE + 1) {
            return Err(invalid("a sequence number is higher than any that a VM can reach".to_owned()));
        }
        let (protocol, records, bytes) = (Arc::clone(self), batch.items.len(), encoded.len());
        run_to_completion(async move {
            protocol.store(batch, heard_at).await?;
            protocol.metrics.observe_batch(records, bytes);
            Ok(())
        })
        .await
    }

    async fn store(&self, batch: AuditBatch, heard_at: UnixMillis) -> Result<(), Error> {
        let (batch, payloads) = self.seal_payloads(self.redact_paths(batch).await?).await?;
        let mut transaction = self.store.begin_log().await.map_err(|error| self.space.batch_failed(error))?;
        let gateway = batch.source.gateway.clone();
        let incarnation = batch.source.incarnation;
        let latest = UnixMillis(self.clock.now().0.saturating_add(MAX_LEAD_MS));
        let ingested = transaction.ingest(batch, &payloads, heard_at, latest).await;
        let Ingested { missing, withdrawn } = ingested.map_err(|error| match error {
            IngestError::Storage(error) => self.space.batch_failed(error),
            wrong @ (IngestError::Leap { .. } | IngestError::TooManyGaps) => invalid(wrong.to_string()),
        })?;
        transaction.commit().await.map_err(|error| self.space.batch_failed(error))?;
        self.notifications.audit_committed.send_replace(());
        if missing > 0 {
            tracing::warn!(gateway, missing, "audit records missing");
        }
        if let Some(gap) = withdrawn {
            let gateway = GatewayId { gateway, incarnation };
            tracing::warn!(%gateway, gap, "gateway considered lost is live, gap withdrawn");
        }
        Ok(())
    }

    /// Redacts the paths of a batch, because gateways redact by the policy that they have, which may be an earlier one or none, and
    /// only secrets in plain text or percent-encoding.
    async fn redact_paths(&self, mut batch: AuditBatch) -> Result<AuditBatch, Error> {
        let (policy, _) = self.publisher.publication.policy()?;
        let redact = move || {
            for item in &mut batch.items {
                if let AuditItem::Call(record)
                | AuditItem::CallWithPayload(record, _)
                | AuditItem::InProgress(CallInProgress { record, .. }) = item
                {
                    redact_record(record, &policy);
                }
            }
            batch
        };
        spawn_blocking(redact).await.map_err(|error| {
            tracing::error!(%error, "redaction of audit records aborted");
            Error::internal()
        })
    }

    /// Takes the payloads out of a batch, and encrypts those that the effective policy keeps, by the numbers of their
    /// calls.
    async fn seal_payloads(
        &self,
        batch: AuditBatch,
    ) -> Result<(AuditBatch, HashMap<u64, SealedPayload>), Error> {
        if !batch.items.iter().any(|item| matches!(item, AuditItem::CallWithPayload(..))) {
            return Ok((batch, HashMap::new()));
        }
        let (policy, _) = self.publisher.publication.policy()?;
        let (mut items, mut payloads) = (Vec::with_capacity(batch.items.len()), Vec::new());
        for item in batch.items {
            items.push(match item {
                AuditItem::CallWithPayload(record, payload) => {
                    let binding = Binding {
                        argument_hash: record.argument_hash,
                        request_id: record.request_id.clone(),
                    };
                    // The gateway may have recorded more, under an earlier policy before this one reached it.
                    let most = policy.recorded_payload_bytes(record.endpoint.as_deref(), &record.method);
                    if most > 0 && record.key.is_some() {
                        payloads.push((record.sequence, binding, payload.truncate_to(most)));
                    }
                    AuditItem::Call(record)
                }
                other => other,
            });
        }
        let batch = AuditBatch { items, ..batch };
        let redact = policy.document().payloads.redact.clone();
        let sealed = self.vault.seal(&*self.store, self.clock.now(), payloads, redact).await?;
        Ok((batch, sealed))
    }
}

fn redact_record(record: &mut AuditRecord, policy: &Policy) {
    if let Some(path) = policy.redact_recorded_path(record.endpoint.as_deref(), &record.path) {
        record.path = path;
    }
    for text in [&mut record.path, &mut record.request_id] {
        if let Some(redacted) = redact_text(text) {
            *text = redacted;
        }
    }
}

fn invalid(detail: String) -> Error {
    Error::new(ErrorCode::InvalidBatch, detail)
}
