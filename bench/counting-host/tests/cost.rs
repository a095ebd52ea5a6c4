//! The cost of a request in the filter, in numbers that are the same on every machine, so that a slowdown is detected
//! even on a busy one. An improvement should lower the bounds that it makes too generous.

use omniflow_counting_host::scenario::{self, PATH, key, request};
use omniflow_counting_host::{Cost, Exchange};
use omniflow_harness::paths;

/// The cost of the exchange in a warmed-up VM.
fn cost(limit: u32, exchange: &Exchange) -> Cost {
    let cost = scenario::steady_cost(&paths::filter_wasm().unwrap(), limit, exchange).unwrap();
    println!("{} {}: {} fuel, {} crossings", exchange.request[2].1, cost.status, cost.fuel, cost.crossings());
    println!("  {:?}\n  {:?}\n  {:?}", cost.in_callback, cost.callbacks, cost.fuel_left);
    cost
}

#[track_caller]
fn assert_within(cost: &Cost, fuel: u64, crossings: u64) {
    assert!(cost.fuel <= fuel, "{} fuel, at most {fuel}", cost.fuel);
    let crossings = crossings + SDK_CALLBACKS;
    assert!(cost.crossings() <= crossings, "{} crossings, at most {crossings}: {cost:?}", cost.crossings());
}

#[test]
fn an_allowed_request() {
    let cost = cost(1_000_000, &request("GET", PATH, key(0).expose()));
    assert_eq!(cost.status, 200);
    let forwarded = cost.forwarded.as_ref().unwrap();
    assert!(forwarded.iter().all(|(name, _)| name != b"authorization"));
    assert_eq!(forwarded.iter().filter(|(name, _)| name.starts_with(b"x-omniflow-")).count(), 4);
    assert_eq!(cost.response.iter().filter(|(name, _)| name.starts_with(b"x-ratelimit-")).count(), 3);
    for name in [b"vary".as_slice(), b"cache-control"] {
        assert!(cost.response.iter().any(|(known, _)| known == name), "{:?}", cost.response);
    }
    assert_within(&cost, ALLOWED.0, ALLOWED.1);
}

#[test]
fn a_request_with_a_body() {
    let mut exchange = request("POST", "/api/v1/conversations?draft=1", key(0).expose());
    exchange.request.push(("content-type".to_owned(), "application/json".to_owned()));
    exchange.body =
        vec![br#"{"subject": "hello", "text": "a body of a usual size for a call of an API"}"#.to_vec()];
    let cost = cost(1_000_000, &exchange);
    assert_eq!(cost.status, 200);
    assert_within(&cost, WITH_BODY.0, WITH_BODY.1);
}

#[test]
fn a_refused_request() {
    let cost = cost(1_000_000, &request("GET", "/api/v1/contacts", key(0).expose()));
    assert_eq!(cost.status, 403);
    assert_within(&cost, REFUSED.0, REFUSED.1);
}

#[test]
fn a_request_over_its_limit() {
    let cost = cost(10, &request("GET", PATH, key(0).expose()));
    assert_eq!(cost.status, 429);
    assert_within(&cost, OVER_LIMIT.0, OVER_LIMIT.1);
}

#[test]
fn no_key() {
    let mut exchange = request("GET", PATH, "");
    exchange.request.retain(|(name, _)| name != "authorization");
    let cost = cost(1_000_000, &exchange);
    assert_eq!(cost.status, 401);
    assert_within(&cost, NO_KEY.0, NO_KEY.1);
}

#[test]
fn an_unknown_key() {
    let cost = cost(1_000_000, &request("GET", PATH, key(1).expose()));
    assert_eq!(cost.status, 401);
    assert_within(&cost, UNKNOWN.0, UNKNOWN.1);
}

/// Fuel, one tenth above the counted value, and crossings without [`SDK_CALLBACKS`].
const ALLOWED: (u64, u64) = (143_000, 28);
const WITH_BODY: (u64, u64) = (174_000, 31);
const REFUSED: (u64, u64) = (160_000, 18);
const OVER_LIMIT: (u64, u64) = (172_000, 19);
const UNKNOWN: (u64, u64) = (148_000, 14);
const NO_KEY: (u64, u64) = (131_000, 14);
/// `proxy_on_log` and `proxy_on_delete`: Envoy calls them for every request in every filter based on the SDK, including
/// the empty one.
const SDK_CALLBACKS: u64 = 2;
