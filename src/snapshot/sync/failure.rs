//! Failures of the leader's work: what is logged, and when the next poll takes place.

use std::time::Duration;

use omniflow_policy::audit::clip;
use omniflow_policy::snapshot::SnapshotError;

use super::state::State;
use super::{Leader, REJECTED_PAUSE, SyncContext, SyncOutcome};
use crate::config::TOKEN_VARIABLE;
use crate::control_plane::Response;
use crate::host::{self, DispatchError, LogLevel};

impl Leader {
    pub(super) fn dispatch_failed(&mut self, context: &SyncContext<'_>, error: DispatchError) {
        match error {
            DispatchError::UnknownCluster => {
                let failure = format!(
                    "Envoy has no cluster {:?}; check \"cluster\" in the plugin configuration",
                    context.config.cluster
                );
                self.fail(context, &failure, Some(REJECTED_PAUSE));
            }
            DispatchError::Unreachable => {
                self.fail(
                    context,
                    "no host in the control plane's cluster is reachable; check the cluster's endpoints",
                    None,
                );
            }
        }
    }

    /// Handles a response with an unexpected status.
    pub(super) fn reject_status(&mut self, context: &SyncContext<'_>, response: &Response) -> SyncOutcome {
        let status = response.status;
        match status {
            // 401 becomes 429 when many invalid tokens come from this address. Both are logged alike; otherwise, the
            // log would alternate between them.
            401 | 403 | 429 => {
                let failure = format!(
                    "the control plane rejected the gateway token; set \"gateway_token\" or \
                     {TOKEN_VARIABLE} to a valid token with the gateway role"
                );
                self.fail(context, &failure, Some(REJECTED_PAUSE))
            }
            // A newer image replaced it in the meantime.
            410 => self.fail(
                context,
                "the control plane no longer offers the image being downloaded, restarting the download",
                None,
            ),
            // Envoy's response if nothing listens, and the control plane's response while it starts.
            503 => self.fail(context, "the control plane is unavailable (503)", None),
            _ => {
                let body = clip(&response.body, 300);
                self.fail(
                    context,
                    &format!("the control plane responded with status {status}: {body}"),
                    Some(REJECTED_PAUSE),
                )
            }
        }
    }

    /// Rejects a delta that does not match shared data and requests a full image instead.
    pub(super) fn reject_delta(&mut self, context: &SyncContext<'_>, error: SnapshotError) -> SyncOutcome {
        self.needs_full_image = true;
        self.reject(context, error)
    }

    /// Rejects a snapshot. The last valid one stays effective.
    pub(super) fn reject(&mut self, context: &SyncContext<'_>, error: SnapshotError) -> SyncOutcome {
        context.metrics.add_snapshot_rejected();
        let remedy = match error {
            SnapshotError::OtherInstallation => {
                "; to move this gateway to another installation, restart Envoy"
            }
            SnapshotError::Format(_) => "; update the filter or the control plane, whichever is older",
            _ => "",
        };
        let failure = format!("snapshot rejected, the last valid one stays effective: {error}{remedy}");
        self.fail(context, &failure, Some(REJECTED_PAUSE))
    }

    /// Logs a failure, unless it is the same as the last one, and schedules the next poll.
    pub(super) fn fail(
        &mut self,
        context: &SyncContext<'_>,
        failure: &str,
        pause: Option<Duration>,
    ) -> SyncOutcome {
        if self.last_failure.as_deref() != Some(failure) {
            host::log(LogLevel::Error, failure);
            self.last_failure = Some(failure.to_owned());
        }
        let pause = pause.unwrap_or_else(|| self.backoff.pause());
        self.state = State::Resting { until: context.now.after(pause) };
        SyncOutcome::default()
    }
}
