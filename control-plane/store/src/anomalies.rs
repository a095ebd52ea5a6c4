//! Anomalies in the usage of keys, the sums from which they are detected, and their delivery to the webhook.

use async_trait::async_trait;
use omniflow_domain::anomaly::{Anomaly, AnomalyFilter, AnomalyKind, Detection, Evidence};
use omniflow_domain::detection::{History, Present, QUIET_MS};
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use crate::error::Result;

/// An anomaly that is being delivered to the webhook.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The anomaly.
    pub anomaly: Anomaly,
    /// When it was found.
    pub since: UnixMillis,
    /// Failed attempts so far.
    pub attempts: u32,
}

/// Sums with calls that were not evaluated yet.
#[derive(Clone, Debug)]
pub enum ChangedHour {
    /// An hour of a key.
    Hour(Present),
    /// All calls so far with a version after its expiry or revocation. They are always an anomaly.
    Ended(Detection),
}

/// The position of a pass over all changed sums. Sums that change again after they were passed are left to the next
/// pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvaluationCursor {
    /// The last hour, and the last key in it.
    pub hour: (u64, Uuid),
    /// The last key, version and reason of calls after a version's expiry or revocation.
    pub end: (Uuid, u16, String),
}

/// Reads anomalies.
#[async_trait]
pub trait AnomalyStore {
    /// Returns up to `limit` anomalies, most recently detected first, after the anomaly `before`.
    async fn anomalies(
        &self,
        filter: &AnomalyFilter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Anomaly>>;

    /// Total number of detected anomalies by kind.
    async fn anomaly_totals(&self) -> Result<Vec<(AnomalyKind, u64)>>;

    /// Returns up to `limit` changed sums of each kind after `cursor`, oldest hours first, and advances the cursor.
    async fn changed_hours(&self, cursor: &mut EvaluationCursor, limit: usize) -> Result<Vec<ChangedHour>>;

    /// The usage of a key before this hour. Fills in [`Present::new_in_a_day`].
    async fn history(&self, present: &mut Present) -> Result<History>;

    /// Number of anomalies that the webhook has not accepted yet.
    async fn waiting_deliveries(&self) -> Result<u64>;

    /// Returns up to `limit` anomalies that are due for delivery at `now`, the longest waiting first.
    async fn due_deliveries(&self, now: UnixMillis, limit: usize) -> Result<Vec<Delivery>>;
}

/// Writes anomalies.
#[async_trait]
pub trait AnomalyWrites {
    /// Stores a detection: as part of an open anomaly, or as a new one. Returns the anomaly if it is new. With
    /// `webhook_since`, a new anomaly is queued for the webhook.
    async fn record_detection(
        &mut self,
        detection: Detection,
        webhook_since: Option<UnixMillis>,
    ) -> Result<Option<Anomaly>>;

    /// Marks sums as evaluated, unless more calls were added since they were read.
    async fn mark_evaluated(&mut self, changed: &ChangedHour) -> Result<()>;

    /// Schedules the next attempt to deliver an anomaly.
    async fn put_off_delivery(&mut self, anomaly: i64, attempts: u32, next: UnixMillis) -> Result<()>;

    /// Ends the delivery of an anomaly, accepted or not.
    async fn end_delivery(&mut self, anomaly: i64) -> Result<()>;
}

/// Whether a detection belongs to the last anomaly of its key, kind and subject.
pub fn continues(last: &Anomaly, detection: &Detection) -> bool {
    // A version ends once.
    detection.kind == AnomalyKind::UsedAfterEnd
        || (last.detection.last.0.saturating_add(QUIET_MS) >= detection.first.0
            && last.detection.first.0 <= detection.last.0.saturating_add(QUIET_MS))
}

// === impl EvaluationCursor ===

impl Default for EvaluationCursor {
    fn default() -> Self {
        Self { hour: (0, Uuid::nil()), end: (Uuid::nil(), 0, String::new()) }
    }
}

impl EvaluationCursor {
    /// Advances behind these sums.
    pub fn pass(&mut self, changed: &ChangedHour) {
        match changed {
            ChangedHour::Hour(present) => self.hour = (present.counts.hour, present.key_id),
            ChangedHour::Ended(detection) => {
                let Evidence { version, reason, .. } = &detection.evidence;
                self.end =
                    (detection.key_id, version.unwrap_or_default(), reason.clone().unwrap_or_default());
            }
        }
    }
}
