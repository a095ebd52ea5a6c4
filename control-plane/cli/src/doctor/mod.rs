//! `omf doctor`: what is in place, and what to do about what is not.

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
use super::output::{Answer, Output};

/// Days before the end of a key in which it is reported.
const SOON_DAYS: u64 = 7;
/// A `Date` header has whole seconds, and servers renew it once a second.
const DATE_PRECISION_MS: i64 = 1_000;
/// A key that no installation has: identifiers hold the time at which they were made.
const NO_KEY: &str = "/v1/keys/00000000-0000-0000-0000-000000000000";

/// Arguments of `omf doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf doctor\n  \
    omf doctor --gateway http://gateway.internal:10000\n  \
    omf doctor --json\n\n\
    Each line is a check: ok, warning or failure, with what to do. Ends with 1 if one failed. A clock that is off by\n\
    more than 2 s is a warning, a gateway's that is off by more than 30 s a failure: gateways judge by their own clocks\n\
    when a key or an overlap ends.")]
pub struct Doctor {
    /// Also call this gateway, without a key: it must refuse that, or the filter is not in place.
    #[arg(long, value_name = "URL")]
    gateway: Option<String>,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// Worth checking.
    Warning,
    /// Something does not work.
    Failure,
}

/// The outcome of one check.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct CheckResult {
    check: &'static str,
    level: Level,
    message: String,
}

/// All checks, as `--json` prints them.
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
    /// Fails if a check does.
    pub fn run(&self, connection: &Connection, output: Output) -> anyhow::Result<()> {
        let mut checks = Vec::new();
        let mut ahead = None;
        match Client::new(connection) {
            Ok(client) => ahead = check_control_plane(&client, &connection.url, &mut checks),
            Err(error) => checks.push(CheckResult::failure("command line", format!("{error:#}"))),
        }
        if let Some(url) = &self.gateway {
            gateways::call(url, connection.ca_file(), ahead, &mut checks);
        }
        let failed = checks.iter().filter(|check| check.is_failure()).count();
        let report = Answer::new(Report { healthy: failed == 0, checks })?;
        output.print(&report, |report| lines(&report.checks))?;
        if failed > 0 {
            bail!("{failed} of {} checks failed", report.body.checks.len());
        }
        Ok(())
    }
}

/// Checks the control plane, and through it gateways, log and keys. Returns how far its clock is ahead of this machine's, in
/// milliseconds.
fn check_control_plane(client: &Client, url: &str, checks: &mut Vec<CheckResult>) -> Option<i64> {
    let health = match client.probe("/healthz") {
        Ok(health) if health.status == 200 && health.body == "ok\n" => health,
        Ok(health) => {
            let message = format!(
                "{url} answers {} to /healthz, so it is no control plane: check --url",
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
    checks.push(CheckResult::ok("control plane", format!("{url} answers within {took} ms")));
    checks.push(readiness(client));
    let ahead = ahead(&health, clock::now());
    checks.push(this_clock(ahead));
    let (reads, token) = token(client);
    checks.push(token);
    if reads {
        let now = clock::now();
        gateways::check(client, now, checks);
        log::check(client, now, checks);
        checks.push(to_check_result("rotation", rotations_due(client)));
        checks.push(to_check_result("expiry", expiring(client, now)));
    }
    ahead
}

fn readiness(client: &Client) -> CheckResult {
    match client.probe("/readyz") {
        Ok(ready) if ready.status == 200 => CheckResult::ok("ready", "it serves".to_owned()),
        Ok(ready) => {
            let status = ready.status;
            let message = format!(
                "not ready ({status}): the image of all keys is being built, or a database fails; see its log"
            );
            CheckResult::failure("ready", message)
        }
        Err(error) => CheckResult::failure("ready", format!("{error:#}")),
    }
}

/// How far the clock of whoever answered is ahead of this machine's, in milliseconds; `None` without a `Date`.
pub(crate) fn ahead(probe: &Probe, now: UnixMillis) -> Option<i64> {
    let sent = now.0.cast_signed() - i64::try_from(probe.took.as_millis() / 2).ok()?;
    // The header is cut to its second: in the middle it is half of one too early.
    Some(probe.date?.0.cast_signed() + DATE_PRECISION_MS / 2 - sent)
}

/// Whether a clock is off, given what its reading may err by.
pub(crate) fn clock_level(off_ms: i64, precision_ms: i64) -> Level {
    /// From here on it shows: an overlap of 0 s, or an expiry, comes visibly early or late.
    const WARNING_MS: i64 = 2_000;
    /// From here on the end of a short-lived key cannot be relied on.
    const FAILURE_MS: i64 = 30_000;
    match off_ms.saturating_abs().saturating_sub(precision_ms) {
        off if off > FAILURE_MS => Level::Failure,
        off if off > WARNING_MS => Level::Warning,
        _ => Level::Ok,
    }
}

/// Nothing is judged by this machine's clock, so that it is off is never more than a warning.
fn this_clock(ahead: Option<i64>) -> CheckResult {
    let Some(ahead) = ahead else {
        return CheckResult::warning(
            "clock",
            "the control plane's answers have no Date: check what is between".to_owned(),
        );
    };
    if clock_level(ahead, DATE_PRECISION_MS) == Level::Ok {
        return CheckResult::ok("clock", "this machine and the control plane agree".to_owned());
    }
    let message = format!("the control plane's clock is {} of this machine's: set both by NTP", off(ahead));
    CheckResult::warning("clock", message)
}

/// A difference in words: `3.2 s ahead`.
pub(crate) fn off(ahead_ms: i64) -> String {
    let (way, off) = if ahead_ms < 0 { ("behind", -ahead_ms) } else { ("ahead", ahead_ms) };
    format!("{}.{} s {way}", off / 1_000, off % 1_000 / 100)
}

/// Whether the token may read, and its role by what it may call.
fn token(client: &Client) -> (bool, CheckResult) {
    let status = |path: &str| client.probe(path).map(|probe| probe.status);
    let role = || -> anyhow::Result<Option<&str>> {
        Ok(match status("/v1/tokens?limit=1")? {
            401 => None,
            403 if status("/v1/keys?limit=1")? == 403 => Some("gateway"),
            // Changes nothing: there is no such key.
            403 if client.probe_patch(NO_KEY)?.status == 403 => Some("auditor"),
            403 => Some("admin"),
            200 => Some("owner"),
            other => bail!("the control plane answers {other}: see its log"),
        })
    };
    match role() {
        Ok(Some("gateway")) => {
            let message =
                "it has the role gateway, which reads nothing: give the one of an owner, admin or auditor";
            (false, CheckResult::failure("token", message.to_owned()))
        }
        Ok(Some(role)) => (true, CheckResult::ok("token", format!("valid, with the role {role}"))),
        Ok(None) => {
            let message = format!("the token from {} is not valid here: give another", client.token_source());
            (false, CheckResult::failure("token", message))
        }
        Err(error) => (false, CheckResult::failure("token", format!("{error:#}"))),
    }
}

fn rotations_due(client: &Client) -> anyhow::Result<(Level, String)> {
    Ok(match counted(client, ("rotation_due", "true"))? {
        None => (Level::Ok, "no key is due".to_owned()),
        Some((keys, is_one)) => {
            let is = if is_one { "is" } else { "are" };
            (
                Level::Warning,
                format!("{keys} {is} due: omf key list --rotation-due tells which, then omf key rotate"),
            )
        }
    })
}

fn expiring(client: &Client, now: UnixMillis) -> anyhow::Result<(Level, String)> {
    let soon = Duration::from_secs(SOON_DAYS * 86_400);
    let until = format_time(UnixMillis(now.0.saturating_add(millis(soon))));
    Ok(match counted(client, ("expires_before", &until))? {
        None => (Level::Ok, format!("no key ends within {SOON_DAYS} days")),
        Some((keys, is_one)) => {
            let end = if is_one { "ends" } else { "end" };
            let list = format!("omf key list --expires-before {until} tells which");
            (Level::Warning, format!("{keys} {end} within {SOON_DAYS} days: {list}"))
        }
    })
}

/// How many keys pass a filter, in words and whether it is one; `None` for none. One page is read: beyond that the
/// number makes no difference.
fn counted(client: &Client, filter: (&'static str, &str)) -> anyhow::Result<Option<(String, bool)>> {
    let limit = ("limit", Some(MAX_LIMIT.to_string()));
    let query = [(filter.0, Some(filter.1.to_owned())), limit];
    let page: Page<KeyJson> = client.list("/v1/keys", &query)?.body;
    Ok(count(page.items.len(), page.next_cursor.is_some()))
}

fn count(keys: usize, has_more: bool) -> Option<(String, bool)> {
    match (keys, has_more) {
        (0, false) => None,
        (1, false) => Some(("1 key".to_owned(), true)),
        (keys, false) => Some((format!("{keys} keys"), false)),
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
    fn a_clock_is_off_only_by_more_than_its_reading_may_err() {
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
        assert_eq!((off(-2_340), off(31_000)), ("2.3 s behind".to_owned(), "31.0 s ahead".to_owned()));
        let probe = |date: Option<u64>| Probe {
            status: 200,
            date: date.map(UnixMillis),
            body: String::new(),
            took: Duration::from_millis(200),
        };
        assert_eq!(ahead(&probe(Some(60_000)), UnixMillis(60_600)), Some(0));
        assert_eq!(ahead(&probe(None), UnixMillis(60_600)), None);
    }

    #[test]
    fn this_machine_is_never_a_failure() {
        for ahead in [None, Some(3_600_000), Some(-3_600_000)] {
            assert_eq!(this_clock(ahead).level, Level::Warning, "{ahead:?}");
        }
    }

    #[test]
    fn keys_are_counted_as_people_count() {
        let counted = |keys, has_more| count(keys, has_more).map(|(keys, _)| keys);
        assert_eq!(counted(0, false), None);
        assert_eq!(counted(1, false).as_deref(), Some("1 key"));
        assert_eq!(counted(2, false).as_deref(), Some("2 keys"));
        assert_eq!(counted(500, true).as_deref(), Some("more than 500 keys"));
    }

    #[test]
    fn each_check_is_a_line() {
        let checks = [
            CheckResult::ok("ready", "it serves".to_owned()),
            CheckResult::failure("token", "no".to_owned()),
        ];
        assert_eq!(lines(&checks), "ok       ready          it serves\nfailure  token          no\n");
    }
}
