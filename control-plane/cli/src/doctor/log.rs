//! Checks of the audit log: gaps, and the state of the OTLP export.

use std::time::Duration;

use omniflow_api_types::audit::AuditGapJson;
use omniflow_api_types::page::{MAX_LIMIT, Page};
use omniflow_api_types::values::UnixMillis;

use super::{CheckResult, Level, millis, to_check_result};
use crate::client::Client;
use crate::output::counted;

/// Age up to which gaps are reported; gaps stay in the log forever.
const RECENT: Duration = Duration::from_secs(86_400);
/// Lag of the export in seconds from which it is reported.
const LATE: u64 = 300;

/// Checks the audit log, and its export if there is one.
pub(crate) fn check(client: &Client, now: UnixMillis, checks: &mut Vec<CheckResult>) {
    checks.push(to_check_result("audit log", gaps(client, now)));
    match client.probe("/metrics") {
        Ok(metrics) => {
            checks.extend(space(&metrics.body).map(|state| to_check_result("disk", Ok(state))));
            checks.extend(cut_polls(&metrics.body).map(|state| to_check_result("polls", Ok(state))));
            checks.extend(refused(&metrics.body).map(|state| to_check_result("requests", Ok(state))));
            checks.extend(export(&metrics.body).map(|state| to_check_result("OTLP export", Ok(state))))
        }
        Err(error) => checks.push(CheckResult::failure("OTLP export", format!("{error:#}"))),
    }
}

/// Checks for recently lost records.
fn gaps(client: &Client, now: UnixMillis) -> anyhow::Result<(Level, String)> {
    let query = [("limit", Some(MAX_LIMIT.to_string()))];
    let page: Page<AuditGapJson> = client.list("/v1/audit/gaps", &query)?.body;
    let is_recent = |gap: &&AuditGapJson| now.0.saturating_sub(gap.to.0.0) <= millis(RECENT);
    let (purged, recent): (Vec<&AuditGapJson>, Vec<_>) =
        page.items.iter().filter(is_recent).partition(|gap| gap.cause.starts_with("purged_"));
    if recent.is_empty() && !purged.is_empty() {
        let records: u64 = purged.iter().map(|gap| gap.missing).sum();
        let message = format!(
            "{} of the last 24 hours purged because the log reached audit_max_mib: run omf audit gaps",
            counted(records, "record")
        );
        return Ok((Level::Warning, message));
    }
    let lost: u64 = recent.iter().map(|gap| gap.missing).sum();
    let is_least = recent.iter().any(|gap| gap.at_least);
    Ok(match (recent.is_empty(), page.next_cursor.is_some()) {
        (true, false) => (Level::Ok, "no records lost in the last 24 hours".to_owned()),
        // The list is sorted by when gaps were detected, so gaps on later pages may be recent too.
        (true, true) => {
            (Level::Warning, format!("more than {MAX_LIMIT} gaps in the last 24 hours: run omf audit gaps"))
        }
        (false, has_more) => {
            let least = if has_more || is_least { "at least " } else { "" };
            (
                Level::Warning,
                format!("{least}{} lost in the last 24 hours: run omf audit gaps", counted(lost, "record")),
            )
        }
    })
}

/// Checks the free space for audit records; `None` if the metrics do not include it.
fn space(metrics: &str) -> Option<(Level, String)> {
    let (free, reserve) =
        (number(metrics, "omf_volume_free_bytes")?, number(metrics, "omf_volume_reserve_bytes")?);
    let rejected: u64 = ["reserve", "failed"]
        .iter()
        .filter_map(|cause| {
            number(metrics, &format!("omf_audit_batches_rejected_total{{cause=\"{cause}\"}}"))
        })
        .sum();
    let (free_mib, reserve_mib) = (free >> 20, reserve >> 20);
    let log_mib = number(metrics, "omf_audit_log_bytes").unwrap_or_default() >> 20;
    Some(if free < reserve {
        let message = format!(
            "{free_mib} MiB free on the volume of the data directory, less than the reserve of {reserve_mib} MiB: audit \
             records are rejected, and gateways lose them when their buffers are full. Free up disk space, or set audit_max_mib"
        );
        (Level::Failure, message)
    } else if free < 2 * reserve {
        let message = format!(
            "{free_mib} MiB free on the volume of the data directory; below {reserve_mib} MiB, audit records are rejected"
        );
        (Level::Warning, message)
    } else if rejected > 0 {
        let message = format!(
            "{free_mib} MiB free, but {} with audit records not stored since the start: see the log of the control plane",
            if rejected == 1 { "1 batch".to_owned() } else { format!("{rejected} batches") }
        );
        (Level::Warning, message)
    } else {
        (Level::Ok, format!("the audit log uses {log_mib} MiB, and {free_mib} MiB are free"))
    })
}

/// Checks for gateways whose polls are cut by a proxy; `None` without any.
fn cut_polls(metrics: &str) -> Option<(Level, String)> {
    let gateways = number(metrics, "omf_gateways_with_cut_polls").filter(|gateways| *gateways > 0)?;
    let seconds = number(metrics, "omf_gateway_poll_cut_seconds")?;
    let message = format!(
        "a proxy in front of the control plane cuts off the polls of {} after {seconds} s, so polls are more frequent: set the proxy's timeout for /gateway/ above 30 s",
        counted(gateways, "gateway")
    );
    Some((Level::Warning, message))
}

/// Checks for refused requests of gateways; `None` without any.
fn refused(metrics: &str) -> Option<(Level, String)> {
    let start = "omf_gateway_requests_refused_total{code=\"";
    let counts = metrics.lines().filter_map(|line| line.strip_prefix(start)?.split_once("\"} "));
    let counts = counts.filter(|(_, count)| *count != "0").map(|(code, count)| format!("{code}: {count}"));
    let counts: Vec<String> = counts.collect();
    let message = format!(
        "requests of gateways refused since the control plane started ({}): run omf token list to see with which tokens",
        counts.join(", ")
    );
    (!counts.is_empty()).then_some((Level::Warning, message))
}

/// The value of a metric without a fraction.
fn number(metrics: &str, name: &str) -> Option<u64> {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.parse().ok()
}

/// Checks whether the export keeps up; `None` without an export.
fn export(metrics: &str) -> Option<(Level, String)> {
    let number = |name: &str| number(metrics, name);
    let (waiting, late) = (number("omf_otlp_waiting_records")?, number("omf_otlp_lag_seconds")?);
    let rejected = number("omf_otlp_rejected_total").unwrap_or_default();
    let purged = number("omf_otlp_purged_total").unwrap_or_default();
    Some(if late >= LATE {
        let message = format!(
            "{} waiting for the receiver, the oldest for {late} s: see the log of the control plane",
            counted(waiting, "record")
        );
        (Level::Warning, message)
    } else if rejected > 0 || purged > 0 {
        let message = format!(
            "keeps up, but records were not delivered (rejected by the receiver: {rejected}, purged: {purged}): see the log \
             of the control plane"
        );
        (Level::Warning, message)
    } else {
        (Level::Ok, format!("keeps up: {} waiting", counted(waiting, "record")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_space_is_compared_with_the_reserve() {
        let level = |free_mib: u64, failed: u64| {
            let metrics = format!(
                "omf_audit_log_bytes 1048576\nomf_volume_free_bytes {}\nomf_volume_reserve_bytes {}\n\
                 omf_audit_batches_rejected_total{{cause=\"failed\"}} {failed}\n",
                free_mib << 20,
                256 << 20
            );
            space(&metrics).unwrap()
        };
        assert_eq!(level(900, 0), (Level::Ok, "the audit log uses 1 MiB, and 900 MiB are free".to_owned()));
        assert_eq!(level(511, 0).0, Level::Warning);
        assert!(level(255, 0).0 == Level::Failure && level(255, 0).1.contains("audit_max_mib"));
        assert!(level(900, 3).0 == Level::Warning && level(900, 3).1.contains("3 batches"));
        assert!(level(900, 1).1.contains("1 batch with"));
        assert_eq!(space("omf_snapshot_version 7\n"), None);
    }

    #[test]
    fn cut_polls_are_reported() {
        assert_eq!(cut_polls("omf_gateways_with_cut_polls 0\nomf_gateway_poll_cut_seconds 0\n"), None);
        let (level, message) =
            cut_polls("omf_gateways_with_cut_polls 2\nomf_gateway_poll_cut_seconds 15\n").unwrap();
        assert!(level == Level::Warning && message.contains("2 gateways after 15 s"), "{message}");
    }

    #[test]
    fn refused_requests_of_gateways_are_reported() {
        let metrics = |other: u64| {
            format!(
                "omf_gateway_requests_refused_total{{code=\"gateway_not_permitted\"}} 0\n\
                 omf_gateway_requests_refused_total{{code=\"gateway_of_other_token\"}} {other}\n"
            )
        };
        assert_eq!(refused(&metrics(0)), None);
        let (level, message) = refused(&metrics(3)).unwrap();
        assert!(level == Level::Warning && message.contains("(gateway_of_other_token: 3)"), "{message}");
    }

    #[test]
    fn an_export_is_checked_by_its_metrics() {
        let state_of = |waiting: u64, late: u64, rejected: u64, purged: u64| {
            export(&format!(
                "# HELP omf_otlp_lag_seconds Age.\nomf_otlp_waiting_records {waiting}\nomf_otlp_lag_seconds {late}\n\
                 omf_otlp_rejected_total {rejected}\nomf_otlp_purged_total {purged}\n"
            ))
            .unwrap()
        };
        assert_eq!(state_of(7, 299, 0, 0), (Level::Ok, "keeps up: 7 records waiting".to_owned()));
        assert_eq!(state_of(1, 299, 0, 0).1, "keeps up: 1 record waiting");
        let (level, message) = state_of(7, 300, 0, 0);
        assert!(
            level == Level::Warning && message.contains("7 records waiting") && message.contains("300 s")
        );
        let (level, message) = state_of(0, 0, 2, 3);
        assert!(level == Level::Warning && message.contains("(rejected by the receiver: 2, purged: 3)"));
        assert_eq!(export("omf_snapshot_version 7\n"), None, "there is no export");
    }
}
