//! Detects anomalies, only in hours of keys with new calls, a few at a time, in parallel with the ingest.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::notifications::Notifications;
use omniflow_domain::clock::Clock;
use omniflow_domain::detection::{examine, is_worth_evaluating};
use omniflow_store::{ChangedHour, EvaluationCursor, Store, StoreError};

/// How often new calls are evaluated.
const INTERVAL: Duration = Duration::from_secs(15);
/// Number of hours that are evaluated between two pauses and marked in one transaction.
const HOURS_AT_ONCE: usize = 100;

/// Detects anomalies until the process is asked to end. With a webhook, each is queued for it.
pub async fn run_detection(
    store: &dyn Store,
    notifications: &Notifications,
    clock: &Clock,
    has_webhook: bool,
) {
    let until_stopped = async {
        loop {
            if let Err(error) = detect(store, notifications, clock, has_webhook).await {
                tracing::warn!(%error, "anomaly detection failed, will retry");
            }
            // Anomalies are detected within this time, and all calls that arrive in it are evaluated together; nothing
            // waits for this.
            sleep(INTERVAL).await;
        }
    };
    tokio::select! {
        () = until_stopped => {}
        () = notifications.stopped() => {}
    }
}

/// Evaluates all hours that have changed so far. Changes in the meantime are left to the next run.
pub async fn detect(
    store: &dyn Store,
    notifications: &Notifications,
    clock: &Clock,
    has_webhook: bool,
) -> Result<(), StoreError> {
    let mut cursor = EvaluationCursor::default();
    loop {
        let started = Instant::now();
        let changed = store.changed_hours(&mut cursor, HOURS_AT_ONCE).await?;
        let is_last = changed.len() < HOURS_AT_ONCE;
        evaluate(store, notifications, clock, has_webhook, changed).await?;
        if is_last {
            return Ok(());
        }
        // Half of the time is left to gateways that deliver records.
        sleep(started.elapsed()).await;
    }
}

/// Evaluates these hours and stores the anomalies.
pub async fn evaluate(
    store: &dyn Store,
    notifications: &Notifications,
    clock: &Clock,
    has_webhook: bool,
    mut changed: Vec<ChangedHour>,
) -> Result<(), StoreError> {
    if changed.is_empty() {
        return Ok(());
    }
    let mut anomalies = Vec::new();
    for one in &mut changed {
        match one {
            ChangedHour::Hour(present) if is_worth_evaluating(present) => {
                let history = store.history(present).await?;
                anomalies.extend(examine(&history, present));
            }
            ChangedHour::Hour(_) => {}
            ChangedHour::Ended(detection) => anomalies.push(detection.clone()),
        }
    }
    let webhook_since = has_webhook.then(|| clock.now());
    let mut found = Vec::new();
    let mut transaction = store.begin_log().await?;
    for detection in anomalies {
        found.extend(transaction.record_detection(detection, webhook_since).await?);
    }
    for one in &changed {
        transaction.mark_evaluated(one).await?;
    }
    transaction.commit().await?;
    for anomaly in &found {
        let kind = anomaly.detection.kind.as_str();
        tracing::warn!(kind, key = %anomaly.detection.key_id, "{}", anomaly.detection.summary());
    }
    if !found.is_empty() {
        notifications.anomaly_committed.send_replace(());
    }
    Ok(())
}
