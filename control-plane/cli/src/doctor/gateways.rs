//! Checks of gateways: by what the control plane reports of them, and by calling one.

use std::path::Path;
use std::time::Duration;

use omniflow_api_types::gateway::GatewayJson;
use omniflow_api_types::values::{Denial, UnixMillis};
use serde::Deserialize;

use super::{CheckResult, Level, ahead, clock_level, off};
use crate::client::{self, Client, Probe};
use crate::clock;
use crate::gateway::is_live;
use crate::output::cell;

/// How long a gateway may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The readings of two `Date` headers, each of whole seconds and renewed once a second.
const TWO_DATES_PRECISION_MS: i64 = 2_000;

/// Checks the gateways that the control plane lists.
pub(crate) fn check(client: &Client, now: UnixMillis, checks: &mut Vec<CheckResult>) {
    match client.list_all::<GatewayJson>("/v1/gateways") {
        Ok(gateways) if gateways.is_empty() => {
            let message = "none was heard of in the last day: see Envoy's log, and its gateway token";
            checks.push(CheckResult::warning("gateways", message.to_owned()));
        }
        Ok(gateways) => checks.extend(gateways.iter().map(|gateway| known(gateway, now))),
        Err(error) => checks.push(CheckResult::failure("gateways", format!("{error:#}"))),
    }
}

/// Whether all that is known of a gateway is what an earlier process of the control plane noted.
fn is_remembered(gateway: &GatewayJson) -> bool {
    gateway.filter_version.is_none() && gateway.workers.is_empty()
}

/// The worst of what is known of a gateway.
fn known(gateway: &GatewayJson, now: UnixMillis) -> CheckResult {
    let id = cell(&gateway.id);
    let anomaly = |level, message| CheckResult::new("gateway", level, format!("{id}: {message}"));
    if !is_live(gateway, now) {
        let message =
            format!("silent since {}; if it still serves, it learns of no revocation", gateway.last_seen_at);
        return anomaly(Level::Warning, message);
    }
    if is_remembered(gateway) {
        let message = "has not called since the control plane started; counts as live until it has been silent for a lease";
        return anomaly(Level::Warning, message.to_owned());
    }
    let skew = gateway.clock_skew_ms;
    let clock = skew.map_or(Level::Ok, |skew| clock_level(skew, 0));
    match skew.filter(|_| clock != Level::Ok) {
        Some(skew) => {
            let message = format!("its clock is {} of the control plane's: set both by NTP", off(skew));
            anomaly(clock, message)
        }
        None if !gateway.in_step => {
            let message = "some of its workers enforce an older version: wait a moment, then see Envoy's log";
            anomaly(Level::Failure, message.to_owned())
        }
        None if !gateway.connected => {
            anomaly(Level::Warning, "in step, but no poll is open just now: run this again".to_owned())
        }
        None => anomaly(Level::Ok, "connected and in step".to_owned()),
    }
}

/// Calls a gateway without a key. `control_plane_ahead` is how far the control plane's clock is ahead of this
/// machine's, in milliseconds.
pub(crate) fn call(
    url: &str,
    ca_file: Option<&Path>,
    control_plane_ahead: Option<i64>,
    checks: &mut Vec<CheckResult>,
) {
    match client::probe_without_token(url, ca_file, TIMEOUT) {
        Ok(probe) => {
            let between = ahead(&probe, clock::now()).zip(control_plane_ahead);
            let clocks =
                between.map(|(gateway, control_plane)| clock_of_called(url, gateway - control_plane));
            checks.extend(called(refusal(url, &probe), clocks));
        }
        Err(error) => checks.push(CheckResult::failure("filter", format!("{error:#}"))),
    }
}

/// The results of a call. Clocks that agree are not reported where the filter is not in place.
fn called(filter: CheckResult, clocks: Option<CheckResult>) -> impl Iterator<Item = CheckResult> {
    let clocks = clocks.filter(|clocks| !(filter.is_failure() && clocks.is_ok()));
    std::iter::once(filter).chain(clocks)
}

/// The part of the filter's problem documents that identifies them.
#[derive(Default, Deserialize)]
struct FilterProblem {
    code: String,
}

/// Only the filter refuses a call in this form.
fn refusal(url: &str, probe: &Probe) -> CheckResult {
    let problem: FilterProblem = serde_json::from_str(&probe.body).unwrap_or_default();
    match (probe.status, problem.code.as_str()) {
        (401, code) if code == Denial::MissingCredentials.code() => {
            CheckResult::ok("filter", format!("{url} refuses a call without a key"))
        }
        (503, code) if code == Denial::PolicyUnavailable.code() => {
            let message = format!("{url} has no keys yet, so it refuses all calls: see Envoy's log");
            CheckResult::failure("filter", message)
        }
        (403, _) => {
            let message = format!("{url} answers 403 as the guard does: Envoy skips the filter; see its log");
            CheckResult::failure("filter", message)
        }
        (status, _) => {
            let message = format!(
                "{url} answers {status} to a call without a key, not the filter's 401: put the filter and the guard \
                 before the router"
            );
            CheckResult::failure("filter", message)
        }
    }
}

fn clock_of_called(url: &str, ahead_ms: i64) -> CheckResult {
    match clock_level(ahead_ms, TWO_DATES_PRECISION_MS) {
        Level::Ok => CheckResult::ok("filter clock", format!("{url} and the control plane agree")),
        level => {
            let message =
                format!("the clock of {url} is {} of the control plane's: set both by NTP", off(ahead_ms));
            CheckResult::new("filter clock", level, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use omniflow_api_types::values::parse_time;
    use serde_json::{Value, json};

    use super::*;
    use crate::gateway::tests::gateway;

    #[test]
    fn the_worst_of_a_gateway_is_reported() {
        let known = |fields: Value| {
            let now = parse_time("2027-01-15T08:00:00Z").unwrap();
            format!("{:?}", known(&gateway(fields), now))
        };
        for (fields, expected) in [
            (json!({}), ["Ok", "connected and in step"]),
            (json!({"clock_skew_ms": null}), ["Ok", "connected and in step"]),
            (json!({"clock_skew_ms": -1_999}), ["Ok", "connected and in step"]),
            (json!({"clock_skew_ms": -2_500}), ["Warning", "2.5 s behind"]),
            (json!({"clock_skew_ms": 30_001, "in_step": false}), ["Failure", "30.0 s ahead"]),
            (json!({"in_step": false}), ["Failure", "older version"]),
            (
                json!({"in_step": false, "filter_version": null, "workers": [{"id": "000000000000000b", "version": 6}]}),
                ["Failure", "older version"],
            ),
            (
                json!({"connected": false, "in_step": false, "filter_version": null, "workers": []}),
                ["Warning", "not called since the control plane started"],
            ),
            (json!({"connected": false}), ["Warning", "no poll is open"]),
            (
                json!({"connected": false, "in_step": false, "last_seen_at": "2027-01-15T07:00:00.000Z"}),
                ["Warning", "silent since 2027-01-15T07:00:00.000Z"],
            ),
        ] {
            let found = known(fields.clone());
            assert!(expected.iter().all(|part| found.contains(part)), "{fields}: {found}");
        }
    }

    #[test]
    fn clocks_that_agree_are_no_comfort_where_the_filter_failed() {
        let shown = |filter: fn(&'static str, String) -> CheckResult, ahead: i64| {
            called(filter("filter", String::new()), Some(clock_of_called("http://g", ahead))).count()
        };
        assert_eq!((shown(CheckResult::ok, 0), shown(CheckResult::ok, 60_000)), (2, 2));
        assert_eq!((shown(CheckResult::failure, 0), shown(CheckResult::failure, 60_000)), (1, 2));
    }

    #[test]
    fn only_the_filters_own_refusal_will_do() {
        let refusal = |status: u16, body: &str| {
            let probe = Probe { status, date: None, body: body.to_owned(), took: Duration::ZERO };
            format!("{:?}", refusal("http://g", &probe))
        };
        assert!(refusal(401, r#"{"code": "missing_credentials"}"#).contains("Ok"));
        for (status, body, expected) in [
            (401, "<html>", "put the filter"),
            (200, r#"{"code": "missing_credentials"}"#, "put the filter"),
            (403, "", "guard"),
            (503, r#"{"code": "policy_unavailable"}"#, "no keys yet"),
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
