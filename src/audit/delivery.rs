//! Delivery of audit batches. One batch is in flight at a time, so that records arrive in order. A batch that is not
//! acknowledged is sent again after a pause that doubles up to [`MAX_PAUSE`].

use std::time::Duration;

use omniflow_policy::gateway::{AUDIT_MEDIA_TYPE, AUDIT_PATH};
use omniflow_policy::time::MonotonicNanos;

use crate::backoff::Backoff;
use crate::config::Config;
use crate::control_plane::{self, CallToken, Response};
use crate::host::{self, LogLevel};

const TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// The delivery of one buffer's batches.
pub(super) struct Delivery {
    in_flight: Option<Batch>,
    not_before: MonotonicNanos,
    backoff: Backoff,
    is_failing: bool,
}

struct Batch {
    call: CallToken,
    items: usize,
}

/// The outcome of a batch.
pub(super) enum BatchOutcome {
    /// The control plane has stored this many items.
    Acknowledged(usize),
    /// The control plane will never accept these items.
    Rejected(usize),
    /// The batch is to be sent again.
    Failed,
}

impl Delivery {
    pub(super) fn new() -> Self {
        Self {
            in_flight: None,
            not_before: MonotonicNanos(0),
            backoff: Backoff::new(FIRST_PAUSE, MAX_PAUSE),
            is_failing: false,
        }
    }

    /// Whether a batch may be sent: none is in flight, and the pause after the last failure is over.
    pub(super) fn is_ready(&self, now: MonotonicNanos) -> bool {
        self.in_flight.is_none() && now >= self.not_before
    }

    /// Sends a batch of `items` items. Returns whether it is in flight.
    pub(super) fn send(&mut self, config: &Config, batch: &[u8], items: usize, now: MonotonicNanos) -> bool {
        match control_plane::post(config, AUDIT_PATH, AUDIT_MEDIA_TYPE, batch, TIMEOUT) {
            Ok(call) => {
                self.in_flight = Some(Batch { call, items });
                true
            }
            Err(_) => {
                self.back_off(now);
                false
            }
        }
    }

    /// Forgets the batch in flight, whose response will not be seen.
    pub(super) fn abandon(&mut self) {
        self.in_flight = None;
    }

    /// Handles the response to a call. `None` if the call does not belong to this buffer.
    pub(super) fn on_response(
        &mut self,
        call: CallToken,
        response: Option<&Response>,
        now: MonotonicNanos,
    ) -> Option<BatchOutcome> {
        let batch = self.in_flight.take_if(|batch| batch.call == call)?;
        Some(match response {
            Some(response) if response.status == 204 => {
                self.backoff.reset();
                if std::mem::take(&mut self.is_failing) {
                    host::log(LogLevel::Warn, "audit delivery recovered");
                }
                BatchOutcome::Acknowledged(batch.items)
            }
            // All later batches would wait behind it.
            Some(response) if response.rejects_batch() => {
                host::log(
                    LogLevel::Error,
                    "the control plane rejected an audit batch as malformed; its records are lost",
                );
                BatchOutcome::Rejected(batch.items)
            }
            response => {
                self.log_failure(response);
                self.back_off(now);
                BatchOutcome::Failed
            }
        })
    }

    /// Logs the first of several failures in a row.
    fn log_failure(&mut self, response: Option<&Response>) {
        if std::mem::replace(&mut self.is_failing, true) {
            return;
        }
        let reason = response.map_or("no response".to_owned(), |response| {
            let status = response.status;
            format!("status {status}")
        });
        host::log(LogLevel::Error, &format!("audit delivery failed, records stay in the buffer: {reason}"));
    }

    fn back_off(&mut self, now: MonotonicNanos) {
        self.not_before = now.after(self.backoff.pause());
    }
}
