//! Checks of the audit log: what is missing in it, and whether it reaches its receiver.

use std::time::Duration;

use omniflow_api_types::audit::AuditGapJson;
use omniflow_api_types::page::{MAX_LIMIT, Page};
use omniflow_api_types::values::UnixMillis;

use super::{CheckResult, Level, millis, to_check_result};
use crate::client::Client;

/// How far back lost records are reported: a gap stays in the log for good.
const RECENT: Duration = Duration::from_secs(86_400);
/// From so many seconds on, records that wait for their receiver are more than a moment's backlog.
const LATE: u64 = 300;

/// The log, and its export where there is one.
pub(crate) fn check(client: &Client, now: UnixMillis, checks: &mut Vec<CheckResult>) {
    checks.push(to_check_result("audit log", gaps(client, now)));
    match client.probe("/metrics") {
        Ok(metrics) => {
            checks.extend(export(&metrics.body).map(|state| to_check_result("OTLP export", Ok(state))))
        }
        Err(error) => checks.push(CheckResult::failure("OTLP export", format!("{error:#}"))),
    }
}

/// Records that gateways lost lately.
fn gaps(client: &Client, now: UnixMillis) -> anyhow::Result<(Level, String)> {
    let query = [("limit", Some(MAX_LIMIT.to_string()))];
    let page: Page<AuditGapJson> = client.list("/v1/audit/gaps", &query)?.body;
    let is_recent = |gap: &&AuditGapJson| now.0.saturating_sub(gap.to.0.0) <= millis(RECENT);
    let recent: Vec<&AuditGapJson> = page.items.iter().filter(is_recent).collect();
    let lost: u64 = recent.iter().map(|gap| gap.missing).sum();
    let is_least = recent.iter().any(|gap| gap.at_least);
    Ok(match (recent.is_empty(), page.next_cursor.is_some()) {
        (true, false) => (Level::Ok, "nothing was lost in the last day".to_owned()),
        // The list is sorted by when gaps were found, so those that do not fit may be of the last day too.
        (true, true) => {
            (Level::Warning, format!("there are more than {MAX_LIMIT} gaps: omf audit gaps tells them"))
        }
        (false, has_more) => {
            let least = if has_more || is_least { "at least " } else { "" };
            (
                Level::Warning,
                format!("{least}{lost} records were lost in the last day: omf audit gaps tells where"),
            )
        }
    })
}

/// Whether the export keeps up; `None` where nothing is exported.
fn export(metrics: &str) -> Option<(Level, String)> {
    let number = |name: &str| {
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        value.parse::<u64>().ok()
    };
    let (waiting, late) = (number("omf_otlp_waiting_records")?, number("omf_otlp_lag_seconds")?);
    let rejected = number("omf_otlp_rejected_total").unwrap_or_default();
    let purged = number("omf_otlp_purged_total").unwrap_or_default();
    Some(if late >= LATE {
        let message = format!(
            "{waiting} records wait for the receiver, the oldest of them for {late} s: see the control plane's log"
        );
        (Level::Warning, message)
    } else if rejected > 0 || purged > 0 {
        let message = format!(
            "it keeps up, but {rejected} records were not wanted by the receiver and {purged} were purged before it \
             took them: see the control plane's log"
        );
        (Level::Warning, message)
    } else {
        (Level::Ok, format!("it keeps up: {waiting} records wait"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_is_judged_by_its_numbers() {
        let state_of = |waiting: u64, late: u64, rejected: u64, purged: u64| {
            export(&format!(
                "# HELP omf_otlp_lag_seconds Age.\nomf_otlp_waiting_records {waiting}\nomf_otlp_lag_seconds {late}\n\
                 omf_otlp_rejected_total {rejected}\nomf_otlp_purged_total {purged}\n"
            ))
            .unwrap()
        };
        assert_eq!(state_of(7, 299, 0, 0), (Level::Ok, "it keeps up: 7 records wait".to_owned()));
        let (level, message) = state_of(7, 300, 0, 0);
        assert!(level == Level::Warning && message.contains("7 records wait") && message.contains("300 s"));
        let (level, message) = state_of(0, 0, 2, 3);
        assert!(
            level == Level::Warning && message.contains("2 records") && message.contains("3 were purged")
        );
        assert_eq!(export("omf_snapshot_version 7\n"), None, "nothing is exported");
    }
}
