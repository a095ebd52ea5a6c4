//! What `omf doctor` finds out about gateways: from the control plane, and by calling one.

use std::path::Path;
use std::time::Duration;

use omniflow_policy::outcome::Denial;
use omniflow_policy::time::UnixMillis;
use serde_json::Value;

use super::client::{self, Client, Probe};
use super::doctor::{Finding, Level, ahead, all, clock_level, off};
use super::gateway::is_live;
use super::output::field;
use crate::clock::Clock;

/// How long a gateway may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The readings of two `Date` headers, each of whole seconds and renewed once a second.
const TWO_DATES_PRECISION_MS: i64 = 2_000;

/// The gateways that the control plane knows of.
pub(super) fn check(client: &Client, now: UnixMillis, findings: &mut Vec<Finding>) {
    match all(client, "/v1/gateways", &[]) {
        Ok(gateways) if gateways.is_empty() => {
            let message = "none was heard of in the last day: see Envoy's log, and its gateway token";
            findings.push(Finding::warning("gateways", message.to_owned()));
        }
        Ok(gateways) => findings.extend(gateways.iter().map(|gateway| known(gateway, now))),
        Err(error) => findings.push(Finding::failure("gateways", format!("{error:#}"))),
    }
}

/// Whether all that is known of a gateway is what an earlier process of the control plane noted.
fn is_remembered(gateway: &Value) -> bool {
    let has_workers = gateway.get("workers").and_then(Value::as_array).is_some_and(|all| !all.is_empty());
    gateway.get("filter_version").is_some_and(Value::is_null) && !has_workers
}

/// The worst of what is known of a gateway.
fn known(gateway: &Value, now: UnixMillis) -> Finding {
    let id = field(gateway, "id");
    let finding = |level, message| Finding::new("gateway", level, format!("{id}: {message}"));
    if !is_live(gateway, now) {
        let seen = field(gateway, "last_seen_at");
        let message = format!("silent since {seen}; if it still serves, it learns of no revocation");
        return finding(Level::Warning, message);
    }
    if is_remembered(gateway) {
        let message = "has not called since the control plane started; counts as live until it has been silent for a lease";
        return finding(Level::Warning, message.to_owned());
    }
    // Unknown before the first poll.
    let skew = gateway.get("clock_skew_ms").and_then(Value::as_i64);
    let clock = skew.map_or(Level::Ok, |skew| clock_level(skew, 0));
    let is = |name: &str| gateway.get(name) == Some(&Value::Bool(true));
    match skew.filter(|_| clock != Level::Ok) {
        Some(skew) => {
            let message = format!("its clock is {} of the control plane's: set both by NTP", off(skew));
            finding(clock, message)
        }
        None if !is("in_step") => {
            let message = "some of its workers enforce an older version: wait a moment, then see Envoy's log";
            finding(Level::Failure, message.to_owned())
        }
        None if !is("connected") => {
            finding(Level::Warning, "in step, but no poll is open just now: run this again".to_owned())
        }
        None => finding(Level::Ok, "connected and in step".to_owned()),
    }
}

/// Calls a gateway without a key. `control_plane_ahead` is how far the control plane's clock is ahead of this
/// machine's, in milliseconds.
pub(super) fn call(
    url: &str,
    ca_file: Option<&Path>,
    clock: &Clock,
    control_plane_ahead: Option<i64>,
    findings: &mut Vec<Finding>,
) {
    match client::probe_without_token(url, ca_file, TIMEOUT) {
        Ok(probe) => {
            let between = ahead(&probe, clock.now()).zip(control_plane_ahead);
            let clocks =
                between.map(|(gateway, control_plane)| clock_of_called(url, gateway - control_plane));
            findings.extend(called(refusal(url, &probe), clocks));
        }
        Err(error) => findings.push(Finding::failure("filter", format!("{error:#}"))),
    }
}

/// What is told of a call. That the clocks agree says nothing about a filter that is not in place.
fn called(filter: Finding, clocks: Option<Finding>) -> impl Iterator<Item = Finding> {
    let clocks = clocks.filter(|clocks| !(filter.is_failure() && clocks.is_ok()));
    std::iter::once(filter).chain(clocks)
}

/// Only the filter refuses a call in this form.
fn refusal(url: &str, probe: &Probe) -> Finding {
    let problem: Value = serde_json::from_str(&probe.body).unwrap_or_default();
    let code = field(&problem, "code");
    match (probe.status, code.as_str()) {
        (401, code) if code == Denial::MissingCredentials.code() => {
            Finding::ok("filter", format!("{url} refuses a call without a key"))
        }
        (503, code) if code == Denial::PolicyUnavailable.code() => {
            let message = format!("{url} has no keys yet, so it refuses all calls: see Envoy's log");
            Finding::failure("filter", message)
        }
        (403, _) => {
            let message = format!("{url} answers 403 as the guard does: Envoy skips the filter; see its log");
            Finding::failure("filter", message)
        }
        (status, _) => {
            let message = format!(
                "{url} answers {status} to a call without a key, not the filter's 401: put the filter and the guard \
                 before the router"
            );
            Finding::failure("filter", message)
        }
    }
}

fn clock_of_called(url: &str, ahead_ms: i64) -> Finding {
    match clock_level(ahead_ms, TWO_DATES_PRECISION_MS) {
        Level::Ok => Finding::ok("filter clock", format!("{url} and the control plane agree")),
        level => {
            let message =
                format!("the clock of {url} is {} of the control plane's: set both by NTP", off(ahead_ms));
            Finding::new("filter clock", level, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::http::testing::START;

    #[test]
    fn the_worst_of_a_gateway_is_told() {
        let known = |fields: Value| {
            let mut gateway = json!({"id": "edge/1", "connected": true, "in_step": true,
                                     "last_seen_at": "2027-01-15T08:00:00.000Z"});
            gateway.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            format!("{:?}", known(&gateway, UnixMillis(START)))
        };
        for (fields, expected) in [
            (json!({}), ["Ok", "connected and in step"]),
            (json!({"clock_skew_ms": null}), ["Ok", "connected and in step"]),
            (json!({"clock_skew_ms": -1_999}), ["Ok", "connected and in step"]),
            (json!({"clock_skew_ms": -2_500}), ["Warning", "2.5 s behind"]),
            (json!({"clock_skew_ms": 30_001, "in_step": false}), ["Failure", "30.0 s ahead"]),
            (json!({"in_step": false}), ["Failure", "older version"]),
            (
                json!({"in_step": false, "filter_version": null, "workers": [{}]}),
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
        let shown = |filter: fn(&'static str, String) -> Finding, ahead: i64| {
            called(filter("filter", String::new()), Some(clock_of_called("http://g", ahead))).count()
        };
        assert_eq!((shown(Finding::ok, 0), shown(Finding::ok, 60_000)), (2, 2));
        assert_eq!((shown(Finding::failure, 0), shown(Finding::failure, 60_000)), (1, 2));
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
