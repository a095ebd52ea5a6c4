//! Failures of the leader's work: what is logged, and when the next poll takes place.

use std::time::Duration;

use omniflow_policy::audit::clip;
use omniflow_policy::snapshot::SnapshotError;

use super::state::State;
use super::{Leader, REJECTED_PAUSE, SyncContext, SyncOutcome};
use crate::config::TOKEN_VARIABLE;
use crate::control_plane::Response;
use crate::host::{self, DispatchError, LogLevel};

/// The text before the reason in the body of Envoy's own 503.
const TRANSPORT_FAILURE: &str = "transport failure reason: ";
/// The maximum length of a reason in the log.
const MAX_REASON: usize = 200;

/// Why Envoy could not connect, from the body of its own 503, with what to do about a certificate. `None` for the 503 of
/// another server.
fn connect_failure(body: &[u8]) -> Option<String> {
    let body = std::str::from_utf8(body).ok()?;
    let (_, reason) = body.split_once(TRANSPORT_FAILURE)?;
    let has = |text| reason.contains(text);
    Some(if has("verify SAN list") {
        "its certificate is for another name; set match_typed_subject_alt_names in Envoy's cluster to a name of the \
         certificate, or issue one for that name (verify SAN list)"
            .to_owned()
    } else if has("CERTIFICATE_VERIFY_FAILED") {
        let reason = clip(reason.as_bytes(), MAX_REASON);
        format!(
            "its certificate is not trusted; check trusted_ca in Envoy's cluster, and its expiry ({reason})"
        )
    } else if has("WRONG_VERSION_NUMBER") {
        "it does not use TLS; remove transport_socket from Envoy's cluster, or configure a certificate for the control plane"
            .to_owned()
    } else {
        clip(reason.as_bytes(), MAX_REASON)
    })
}

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
            503 => {
                let reason = connect_failure(&response.body).map(|reason| format!(": {reason}"));
                let failure = format!(
                    "the control plane is unavailable (503){}",
                    reason.as_deref().unwrap_or_default()
                );
                self.fail(context, &failure, None)
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_why_envoy_cannot_connect_are_explained() {
        let of = |reason: &str| {
            let body = format!(
                "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure, \
                 transport failure reason: {reason}"
            );
            connect_failure(body.as_bytes())
        };
        let tls = |text: &str| {
            of(&format!("TLS_error:|268435581:SSL routines:OPENSSL_internal:{text}:TLS_error_end"))
        };
        for (reason, expected) in [
            (tls("CERTIFICATE_VERIFY_FAILED:verify cert failed: verify SAN list"), "for another name"),
            (
                tls(
                    "CERTIFICATE_VERIFY_FAILED:verify cert failed: X509_verify_cert: unable to get local issuer certificate",
                ),
                "local issuer",
            ),
            (tls("WRONG_VERSION_NUMBER"), "does not use TLS"),
            (of("delayed connect error: Connection refused"), "Connection refused"),
        ] {
            assert!(reason.as_deref().is_some_and(|reason| reason.contains(expected)), "{reason:?}");
        }
        for other in [&b"no healthy upstream"[..], b"", b"\xff transport failure reason: x"] {
            assert_eq!(connect_failure(other), None);
        }
    }
}
