//! Checks of gateways: their state in the control plane, and a call of one.

use std::path::Path;
use std::time::Duration;

use omniflow_api_types::gateway::GatewayJson;
use omniflow_api_types::values::{Denial, GatewayState, UnixMillis};
use serde::Deserialize;

use super::{CheckResult, Level, clock_level, clock_offset, format_offset, millis};
use crate::client::{self, Client, Probe};
use crate::clock;
use crate::output::cell;

/// Timeout of the call of a gateway.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long before the end of a gateway's token it is reported.
const TOKEN_WARNING: Duration = Duration::from_secs(7 * 86_400);
/// Precision of the difference of two `Date` headers, which have whole seconds.
const TWO_DATES_PRECISION_MS: i64 = 2_000;

/// Checks the gateways that the control plane lists.
pub(crate) fn check(client: &Client, now: UnixMillis, checks: &mut Vec<CheckResult>) {
    match client.list_all::<GatewayJson>("/v1/gateways") {
        Ok(gateways) if gateways.is_empty() => {
            let message =
                "none seen in the last 24 hours: check Envoy's log for its gateway token and the certificate";
            checks.push(CheckResult::warning("gateways", message.to_owned()));
        }
        Ok(gateways) => checks.extend(gateways.iter().map(|gateway| check_gateway(gateway, now))),
        Err(error) => checks.push(CheckResult::failure("gateways", format!("{error:#}"))),
    }
}

/// Whether a gateway is only known from an earlier process of the control plane.
fn is_remembered(gateway: &GatewayJson) -> bool {
    gateway.filter_version.is_none() && gateway.workers.is_empty()
}

/// The most severe result for a gateway.
fn check_gateway(gateway: &GatewayJson, now: UnixMillis) -> CheckResult {
    let id = cell(&gateway.id);
    let result = |level, message| CheckResult::new("gateway", level, format!("{id}: {message}"));
    if let Some((level, message)) = unreachable(gateway) {
        return result(level, message);
    }
    if is_remembered(gateway) {
        let message = "not seen since the control plane started; counts as live until its lease ends";
        return result(Level::Warning, message.to_owned());
    }
    let skew = gateway.clock_skew_ms;
    let clock = skew.map_or(Level::Ok, |skew| clock_level(skew, 0));
    match skew.filter(|_| clock != Level::Ok) {
        Some(skew) => {
            let message = format!(
                "its clock is {}: synchronize both with NTP",
                format_offset(skew, "the control plane")
            );
            result(clock, message)
        }
        None if !gateway.in_step => {
            let message =
                "some workers enforce an older version: run this check again, then check Envoy's log";
            result(Level::Failure, message.to_owned())
        }
        None if expires_soon(gateway, now) => {
            let end = gateway.token_expires_at.map(|end| end.to_string()).unwrap_or_default();
            let message = format!("its token expires at {end}: replace the token before then");
            result(Level::Warning, message)
        }
        None if !gateway.connected => {
            result(Level::Warning, "in step, but no poll is open: run this check again".to_owned())
        }
        None => result(Level::Ok, "connected and in step".to_owned()),
    }
}

/// The result for a gateway that cannot confirm changes.
fn unreachable(gateway: &GatewayJson) -> Option<(Level, String)> {
    let (seen, state) = (gateway.last_seen_at, gateway.state);
    match state {
        GatewayState::InStep | GatewayState::Behind => None,
        GatewayState::Ahead => Some((
            Level::Failure,
            format!(
                "reports version {}, which this control plane has not published, so it receives no changes: if the database \
                 was replaced by an older copy, use omf db restore; otherwise restart the gateway, and replace its token if \
                 the version was forged",
                gateway.version
            ),
        )),
        GatewayState::Silent => Some((
            Level::Warning,
            format!(
                "silent since {seen}; if it is still serving, it does not receive revocations: restore its connection, or run omf gateway remove if it has ended"
            ),
        )),
        GatewayState::TokenExpired | GatewayState::TokenRevoked => Some((
            Level::Failure,
            format!(
                "{}, last seen {seen}; if it is still serving, it does not receive revocations: replace its token, or run omf gateway remove if it has ended",
                state.describe()
            ),
        )),
        GatewayState::Ended => Some((Level::Ok, format!("ended, last seen {seen}"))),
    }
}

fn expires_soon(gateway: &GatewayJson, now: UnixMillis) -> bool {
    let soon = now.0.saturating_add(millis(TOKEN_WARNING));
    gateway.token_expires_at.is_some_and(|end| end.0.0 <= soon)
}

/// Calls a gateway without a key. `control_plane_offset` is the offset of the control plane's clock from the local one in
/// milliseconds.
pub(crate) fn call(
    url: &str,
    ca_file: Option<&Path>,
    control_plane_offset: Option<i64>,
    checks: &mut Vec<CheckResult>,
) {
    match client::probe_without_token(url, ca_file, TIMEOUT) {
        Ok(probe) => {
            let between = clock_offset(&probe, clock::now()).zip(control_plane_offset);
            let clocks =
                between.map(|(gateway, control_plane)| clock_of_called(url, gateway - control_plane));
            checks.extend(call_results(refusal(url, &probe), clocks));
        }
        Err(error) => checks.push(CheckResult::failure("filter", format!("{error:#}"))),
    }
}

/// The results of a call. Clocks that agree are not reported if the filter check failed.
fn call_results(filter: CheckResult, clocks: Option<CheckResult>) -> impl Iterator<Item = CheckResult> {
    let clocks = clocks.filter(|clocks| !(filter.is_failure() && clocks.is_ok()));
    std::iter::once(filter).chain(clocks)
}

/// The part of a problem document that identifies it.
#[derive(Default, Deserialize)]
struct FilterProblem {
    code: String,
}

/// Checks for a refusal that only the filter sends.
fn refusal(url: &str, probe: &Probe) -> CheckResult {
    let problem: FilterProblem = serde_json::from_str(&probe.body).unwrap_or_default();
    match (probe.status, problem.code.as_str()) {
        (401, code) if code == Denial::MissingCredentials.code() => {
            CheckResult::ok("filter", format!("{url} refuses a call without a key"))
        }
        (503, code) if code == Denial::PolicyUnavailable.code() => {
            let message = format!("{url} has no snapshot yet, so it refuses all calls: check Envoy's log");
            CheckResult::failure("filter", message)
        }
        (403, _) => {
            let message = format!(
                "{url} responds with the guard's 403 because Envoy skips the filter: check Envoy's log"
            );
            CheckResult::failure("filter", message)
        }
        (status, _) => {
            let message = format!(
                "{url} responds to a call without a key with {status} instead of the filter's 401: put the filter and the guard before the router"
            );
            CheckResult::failure("filter", message)
        }
    }
}

fn clock_of_called(url: &str, offset_ms: i64) -> CheckResult {
    match clock_level(offset_ms, TWO_DATES_PRECISION_MS) {
        Level::Ok => {
            CheckResult::ok("filter clock", format!("the clocks of {url} and the control plane agree"))
        }
        level => {
            let message = format!(
                "the clock of {url} is {}: synchronize both with NTP",
                format_offset(offset_ms, "the control plane")
            );
            CheckResult::new("filter clock", level, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::gateway::tests::gateway;

    /// 2027-01-15T08:00:00Z.
    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    #[test]
    fn the_most_severe_result_of_a_gateway_is_reported() {
        let checked = |fields: Value| format!("{:?}", check_gateway(&gateway(fields), NOW));
        for (fields, expected) in [
            (json!({}), ["Ok", "connected and in step"]),
            (json!({"clock_skew_ms": null}), ["Ok", "connected and in step"]),
            (json!({"clock_skew_ms": -1_999}), ["Ok", "connected and in step"]),
            (json!({"clock_skew_ms": -2_500}), ["Warning", "2.5 s behind"]),
            (
                json!({"clock_skew_ms": 30_001, "in_step": false, "state": "behind"}),
                ["Failure", "30.0 s ahead"],
            ),
            (json!({"in_step": false, "state": "behind"}), ["Failure", "older version"]),
            (
                json!({"in_step": false, "state": "behind", "filter_version": null, "workers": [{"id": "000000000000000b", "version": 6}]}),
                ["Failure", "older version"],
            ),
            (
                json!({"connected": false, "in_step": false, "state": "behind", "filter_version": null, "workers": []}),
                ["Warning", "not seen since the control plane started"],
            ),
            (json!({"connected": false}), ["Warning", "no poll is open"]),
            (
                json!({"connected": false, "in_step": false, "state": "silent", "last_seen_at": "2027-01-15T07:00:00.000Z"}),
                ["Warning", "silent since 2027-01-15T07:00:00.000Z"],
            ),
            (json!({"state": "ahead", "in_step": false}), ["Failure", "reports version 7, which"]),
            (json!({"state": "token_expired"}), ["Failure", "rejected: token expired"]),
            (json!({"state": "token_revoked"}), ["Failure", "rejected: token revoked"]),
            (json!({"state": "ended", "connected": false}), ["Ok", "ended"]),
            (
                json!({"token_expires_at": "2027-01-22T08:00:00.000Z"}),
                ["Warning", "its token expires at 2027-01-22T08:00:00.000Z"],
            ),
            (json!({"token_expires_at": "2027-01-22T08:00:00.001Z"}), ["Ok", "connected and in step"]),
        ] {
            let found = checked(fields.clone());
            assert!(expected.iter().all(|part| found.contains(part)), "{fields}: {found}");
        }
    }

    #[test]
    fn agreeing_clocks_are_omitted_if_the_filter_check_failed() {
        let shown = |filter: fn(&'static str, String) -> CheckResult, ahead: i64| {
            call_results(filter("filter", String::new()), Some(clock_of_called("http://g", ahead))).count()
        };
        assert_eq!((shown(CheckResult::ok, 0), shown(CheckResult::ok, 60_000)), (2, 2));
        assert_eq!((shown(CheckResult::failure, 0), shown(CheckResult::failure, 60_000)), (1, 2));
    }

    #[test]
    fn only_a_refusal_of_the_filter_passes() {
        let refusal = |status: u16, body: &str| {
            let probe = Probe { status, date: None, body: body.to_owned(), took: Duration::ZERO };
            format!("{:?}", refusal("http://g", &probe))
        };
        assert!(refusal(401, r#"{"code": "missing_credentials"}"#).contains("Ok"));
        for (status, body, expected) in [
            (401, "<html>", "put the filter"),
            (200, r#"{"code": "missing_credentials"}"#, "put the filter"),
            (403, "", "guard"),
            (503, r#"{"code": "policy_unavailable"}"#, "no snapshot yet"),
        ] {
            let found = refusal(status, body);
            assert!(found.contains("Failure") && found.contains(expected), "{found}");
        }
    }

    #[test]
    fn a_called_gateway_is_compared_with_the_control_plane() {
        for (ahead, expected) in [(3_900, "Ok"), (-4_100, "Warning"), (33_000, "Failure")] {
            assert!(format!("{:?}", clock_of_called("http://g", ahead)).contains(expected), "{ahead}");
        }
    }
}
