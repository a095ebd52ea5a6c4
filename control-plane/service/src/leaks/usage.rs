//! How a key was used.

use std::time::Duration;

use omniflow_domain::error::Error;
use omniflow_domain::key_use::{KeyUsage, KeyUse, MAX_CALLS, period_start};
use omniflow_policy::time::UnixMillis;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::Leaks;
use omniflow_domain::anomaly::AnomalyFilter;
use omniflow_domain::key::KeyReference;
use omniflow_store::StoreError;

/// Time limit for reading the usage of all keys of a report, because the response waits for it.
const USAGE_TIME: Duration = Duration::from_secs(5);
/// Maximum number of listed anomalies per key.
const MAX_ANOMALIES: usize = 10;

impl Leaks {
    /// How a key was used in the 30 days before `now`, by its newest `max_calls` calls.
    pub async fn key_usage(&self, key: Uuid, max_calls: u64, now: UnixMillis) -> Result<KeyUsage, Error> {
        Ok(self.read_usage(key, max_calls, now).await?)
    }

    /// How keys were used. Their revocation is already committed, so usage that cannot be read in time is left out.
    pub(super) async fn usages(&self, keys: &[Uuid], now: UnixMillis) -> Vec<Option<KeyUsage>> {
        let deadline = Instant::now() + USAGE_TIME;
        let mut usages = Vec::with_capacity(keys.len());
        for key in keys {
            let usage = timeout_at(deadline, self.read_usage(*key, MAX_CALLS, now)).await;
            let usage = usage.unwrap_or(Err(StoreError::TimeLimit(USAGE_TIME)));
            usages.push(match usage {
                Ok(usage) => Some(usage),
                Err(error) => {
                    tracing::error!(%error, %key, "usage of a leaked key unavailable");
                    None
                }
            });
        }
        usages
    }

    async fn read_usage(&self, key: Uuid, max_calls: u64, now: UnixMillis) -> Result<KeyUsage, StoreError> {
        let from = period_start(now);
        let groups = self.parts.store.call_groups(key, from, max_calls).await?;
        let filter =
            AnomalyFilter { key: Some(KeyReference::Id(key)), from: Some(from), ..Default::default() };
        let anomalies = self.parts.store.anomalies(&filter, None, MAX_ANOMALIES).await?;
        Ok(KeyUsage { calls: KeyUse::of(&groups, max_calls, now), anomalies })
    }
}
