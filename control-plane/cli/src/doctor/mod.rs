//! `omf doctor`: checks of an installation, with how to resolve failures.

mod gateways;
mod log;

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use omniflow_api_types::key::KeyJson;
use omniflow_api_types::page::{MAX_LIMIT, Page};
use omniflow_api_types::values::{UnixMillis, format_time};
use serde::{Serialize, Serializer};

use super::args::Connection;
use super::client::{Client, Probe};
use super::clock;
use super::output::{Answer, Output, counted};

/// Number of days before expiry from which a key is reported.
const SOON_DAYS: u64 = 7;
/// Precision of a `Date` header, which has whole seconds.
const DATE_PRECISION_MS: i64 = 1_000;
/// Path of a key that never exists: IDs contain their time of creation.
const NO_KEY: &str = "/v1/keys/00000000-0000-0000-0000-000000000000";

/// Arguments of `omf doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf doctor\n  \
    omf doctor --gateway http://gateway.internal:10000\n  \
    omf doctor --json\n\n\
    Each line is a check with its result: ok, warning or failure. The exit code is 1 if a check failed. Clock skew above\n\
    2 s is a warning; for a gateway, skew above 30 s is a failure, because gateways use their own clocks to decide when a\n\
    key expires or an overlap ends.")]
pub struct Doctor {
    /// Also check that this gateway refuses a call without a key.
    ///
    /// If it does not, the filter is not installed.
    #[arg(long, value_name = "URL")]
    gateway: Option<String>,
}

/// Result level of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// The check passed.
    Ok,
    /// Something needs attention.
    Warning,
    /// The check failed.
    Failure,
}

/// Result of a check.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct CheckResult {
    check: &'static str,
    level: Level,
    message: String,
}

/// Results of all checks, as `--json` prints them.
#[derive(Debug, Serialize)]
struct Report {
    healthy: bool,
    checks: Vec<CheckResult>,
}

impl Doctor {
    /// Runs all checks and prints their results.
    ///
    /// # Errors
    ///
    /// Fails if a check fails.
    pub fn run(&self, connection: &Connection, output: Output) -> anyhow::Result<()> {
        let mut checks = Vec::new();
        let mut offset = None;
        match Client::new(connection) {
            Ok(client) => offset = check_control_plane(&client, &connection.url, &mut checks),
            Err(error) => checks.push(CheckResult::failure("command line", format!("{error:#}"))),
        }
        if let Some(url) = &self.gateway {
            gateways::call(url, connection.ca_file(), offset, &mut checks);
        }
        let failed = checks.iter().filter(|check| check.is_failure()).count();
        let report = Answer::new(Report { healthy: failed == 0, checks })?;
        output.print(&report, |report| lines(&report.checks))?;
        if failed > 0 {
            bail!("{failed} of {} failed", counted(report.body.checks.len(), "check"));
        }
        Ok(())
    }
}

/// Checks the control plane and, through it, gateways, audit log and keys. Returns the offset of its clock from the local one
/// in milliseconds.
fn check_control_plane(client: &Client, url: &str, checks: &mut Vec<CheckResult>) -> Option<i64> {
    let health = match client.probe("/healthz") {
        Ok(health) if health.status == 200 && health.body == "ok\n" => health,
        Ok(health) => {
            let message = format!(
                "{url} responds to /healthz with {}, so it is not a control plane: check --url",
                health.status
            );
            checks.push(CheckResult::failure("control plane", message));
            return None;
        }
        Err(error) => {
            checks.push(CheckResult::failure("control plane", format!("{error:#}")));
            return None;
        }
    };
    let took = health.took.as_millis();
    checks.push(CheckResult::ok("control plane", format!("{url} responded in {took} ms")));
    checks.push(readiness(client));
    let offset = clock_offset(&health, clock::now());
    checks.push(local_clock(offset));
    let (reads, token) = token(client);
    checks.push(token);
    if reads {
        let now = clock::now();
        gateways::check(client, now, checks);
        log::check(client, now, checks);
        checks.push(to_check_result("rotation", rotations_due(client)));
        checks.push(to_check_result("expiry", expiring(client, now)));
    }
    offset
}

fn readiness(client: &Client) -> CheckResult {
    match client.probe("/readyz") {
        Ok(ready) if ready.status == 200 => CheckResult::ok("ready", "ready to serve".to_owned()),
        Ok(ready) => {
            let status = ready.status;
            let message = format!(
                "not ready ({status}): the snapshot is being built or a database failed; see the log of the control plane"
            );
            CheckResult::failure("ready", message)
        }
        Err(error) => CheckResult::failure("ready", format!("{error:#}")),
    }
}

/// The offset of a server's clock from the local one in milliseconds; `None` without a `Date` header.
pub(crate) fn clock_offset(probe: &Probe, now: UnixMillis) -> Option<i64> {
    let sent = now.0.cast_signed() - i64::try_from(probe.took.as_millis() / 2).ok()?;
    // The header is truncated to seconds, an average error of half a second.
    Some(probe.date?.0.cast_signed() + DATE_PRECISION_MS / 2 - sent)
}

/// The level of a clock offset, given the precision of its measurement.
pub(crate) fn clock_level(off_ms: i64, precision_ms: i64) -> Level {
    /// From this offset, the end of an overlap or an expiry is noticeably early or late.
    const WARNING_MS: i64 = 2_000;
    /// From this offset, the expiry of short-lived keys is unreliable.
    const FAILURE_MS: i64 = 30_000;
    match off_ms.saturating_abs().saturating_sub(precision_ms) {
        off if off > FAILURE_MS => Level::Failure,
        off if off > WARNING_MS => Level::Warning,
        _ => Level::Ok,
    }
}

/// The check of the local clock. Nothing depends on it, so an offset is at most a warning.
fn local_clock(offset: Option<i64>) -> CheckResult {
    let Some(offset) = offset else {
        return CheckResult::warning(
            "clock",
            "responses from the control plane have no Date header: check the proxies in between".to_owned(),
        );
    };
    if clock_level(offset, DATE_PRECISION_MS) == Level::Ok {
        return CheckResult::ok("clock", "the clocks of this machine and the control plane agree".to_owned());
    }
    let message = format!(
        "the clock of the control plane is {}: synchronize both with NTP",
        format_offset(offset, "this machine")
    );
    CheckResult::warning("clock", message)
}

/// Formats a clock offset: `3.2 s ahead of this machine`.
pub(crate) fn format_offset(offset_ms: i64, reference: &str) -> String {
    let (direction, off) = if offset_ms < 0 { ("behind", -offset_ms) } else { ("ahead of", offset_ms) };
    format!("{}.{} s {direction} {reference}", off / 1_000, off % 1_000 / 100)
}

/// Whether the token may read, and its role, derived from the calls that it may make.
fn token(client: &Client) -> (bool, CheckResult) {
    let status = |path: &str| client.probe(path).map(|probe| probe.status);
    let role = || -> anyhow::Result<Option<&str>> {
        Ok(match status("/v1/tokens?limit=1")? {
            401 => None,
            403 if status("/v1/keys?limit=1")? == 403 => Some("gateway"),
            // This changes nothing, because the key does not exist.
            403 if client.probe_patch(NO_KEY)?.status == 403 => Some("auditor"),
            403 => Some("admin"),
            200 => Some("owner"),
            other => bail!("the control plane responded with {other}: see its log"),
        })
    };
    match role() {
        Ok(Some("gateway")) => {
            let message =
                "gateway tokens cannot read the API: use a token with the role owner, admin or auditor";
            (false, CheckResult::failure("token", message.to_owned()))
        }
        Ok(Some(role)) => (true, CheckResult::ok("token", format!("valid, with the role {role}"))),
        Ok(None) => {
            let message = format!(
                "the token from {} is not valid for this control plane: use another one",
                client.token_source()
            );
            (false, CheckResult::failure("token", message))
        }
        Err(error) => (false, CheckResult::failure("token", format!("{error:#}"))),
    }
}

fn rotations_due(client: &Client) -> anyhow::Result<(Level, String)> {
    Ok(match matching_keys(client, ("rotation_due", "true"))? {
        None => (Level::Ok, "no key is due for rotation".to_owned()),
        Some((keys, is_one)) => {
            let is = if is_one { "is" } else { "are" };
            (
                Level::Warning,
                format!("{keys} {is} due for rotation: run omf key list --rotation-due, then omf key rotate"),
            )
        }
    })
}

fn expiring(client: &Client, now: UnixMillis) -> anyhow::Result<(Level, String)> {
    let soon = Duration::from_secs(SOON_DAYS * 86_400);
    let until = format_time(UnixMillis(now.0.saturating_add(millis(soon))));
    Ok(match matching_keys(client, ("expires_before", &until))? {
        None => (Level::Ok, format!("no key expires within {SOON_DAYS} days")),
        Some((keys, is_one)) => {
            let expire = if is_one { "expires" } else { "expire" };
            let command = format!("run omf key list --expires-before {until}");
            (Level::Warning, format!("{keys} {expire} within {SOON_DAYS} days: {command}"))
        }
    })
}

/// The number of keys that match a filter, as text and whether it is one; `None` for none. Only one page is read, because an
/// exact larger number makes no difference.
fn matching_keys(client: &Client, filter: (&'static str, &str)) -> anyhow::Result<Option<(String, bool)>> {
    let limit = ("limit", Some(MAX_LIMIT.to_string()));
    let query = [(filter.0, Some(filter.1.to_owned())), limit];
    let page: Page<KeyJson> = client.list("/v1/keys", &query)?.body;
    Ok(count(page.items.len(), page.next_cursor.is_some()))
}

fn count(keys: usize, has_more: bool) -> Option<(String, bool)> {
    match (keys, has_more) {
        (0, false) => None,
        (keys, false) => Some((counted(keys, "key"), keys == 1)),
        (keys, true) => Some((format!("more than {keys} keys"), false)),
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn to_check_result(check: &'static str, found: anyhow::Result<(Level, String)>) -> CheckResult {
    match found {
        Ok((level, message)) => CheckResult { check, level, message },
        Err(error) => CheckResult::failure(check, format!("{error:#}")),
    }
}

fn lines(checks: &[CheckResult]) -> String {
    checks.iter().map(|one| format!("{:<8} {:<14} {}\n", one.level.name(), one.check, one.message)).collect()
}

// === impl Level ===

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

impl Serialize for Level {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

// === impl CheckResult ===

impl CheckResult {
    pub(crate) fn new(check: &'static str, level: Level, message: String) -> Self {
        Self { check, level, message }
    }

    pub(crate) fn ok(check: &'static str, message: String) -> Self {
        Self::new(check, Level::Ok, message)
    }

    pub(crate) fn warning(check: &'static str, message: String) -> Self {
        Self::new(check, Level::Warning, message)
    }

    pub(crate) fn failure(check: &'static str, message: String) -> Self {
        Self::new(check, Level::Failure, message)
    }

    pub(crate) fn is_failure(&self) -> bool {
        self.level == Level::Failure
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.level == Level::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_offset_within_the_precision_is_ok() {
        for (off_ms, level) in [
            (0, Level::Ok),
            (-3_000, Level::Ok),
            (3_001, Level::Warning),
            (-31_000, Level::Warning),
            (31_001, Level::Failure),
            (i64::MIN, Level::Failure),
        ] {
            assert_eq!(clock_level(off_ms, 1_000), level, "{off_ms}");
        }
        assert_eq!(format_offset(-2_340, "x"), "2.3 s behind x");
        assert_eq!(format_offset(31_000, "x"), "31.0 s ahead of x");
        let probe = |date: Option<u64>| Probe {
            status: 200,
            date: date.map(UnixMillis),
            body: String::new(),
            took: Duration::from_millis(200),
        };
        assert_eq!(clock_offset(&probe(Some(60_000)), UnixMillis(60_600)), Some(0));
        assert_eq!(clock_offset(&probe(None), UnixMillis(60_600)), None);
    }

    #[test]
    fn the_local_clock_is_never_a_failure() {
        for offset in [None, Some(3_600_000), Some(-3_600_000)] {
            assert_eq!(local_clock(offset).level, Level::Warning, "{offset:?}");
        }
    }

    #[test]
    fn key_counts_are_worded() {
        let counted = |keys, has_more| count(keys, has_more).map(|(keys, _)| keys);
        assert_eq!(counted(0, false), None);
        assert_eq!(counted(1, false).as_deref(), Some("1 key"));
        assert_eq!(counted(2, false).as_deref(), Some("2 keys"));
        assert_eq!(counted(500, true).as_deref(), Some("more than 500 keys"));
    }

    #[test]
    fn each_check_is_a_line() {
        let checks = [
            CheckResult::ok("ready", "ready to serve".to_owned()),
            CheckResult::failure("token", "no".to_owned()),
        ];
        assert_eq!(lines(&checks), "ok       ready          ready to serve\nfailure  token          no\n");
    }
}
