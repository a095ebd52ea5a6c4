//! Failed authentications, counted by the address that they come from.
//!
//! A token has 238 random bits and cannot be guessed, and one that nobody was ever given is told from memory
//! ([`crate::known_tokens`]), so failures cost no read of a database. What is bounded here is the rest: what the log says
//! of them, and how many answers somebody gets who tries out tokens that were found elsewhere. A valid token is looked up
//! first and passes whatever others do at its address: behind a NAT or a proxy they are many.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use axum::extract::ConnectInfo;
use axum::http::Extensions;
use omniflow_policy::gcra::{Gcra, Tat, Verdict};
use omniflow_policy::time::MonotonicNanos;
use tokio::time::Instant;

use super::problem::Problem;
use super::refusals::Reason;

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
/// How many failures of an address are answered as such in a minute, and at once. Somebody who mistypes has one or two; a
/// gateway with a wrong token has one every two seconds, and is told the same in either case.
const FAILURES_A_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(59);
/// How many lines the log gets in a minute, and at once, however many addresses there are.
const LINES_A_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(59);
/// The most addresses that are told apart, which takes about half a megabyte.
const MAX_NETWORKS: usize = 4_096;
/// An IPv6 customer gets at least a /64 (RFC 6177), so that its single addresses are no bound.
const IPV6_NETWORK_BITS: u32 = 64;

/// The failed authentications of this process.
#[derive(Debug)]
pub(crate) struct Throttle {
    started: Instant,
    failures: Mutex<Failures>,
    answered: AtomicU64,
    throttled: AtomicU64,
}

/// How many authentications failed since the process began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FailureTotals {
    /// Those that were answered with 401.
    pub(super) answered: u64,
    /// Those beyond the rate of their address, which were answered with 429.
    pub(super) throttled: u64,
}

/// What is known of each address. The clock is the caller's.
#[derive(Debug)]
struct Failures {
    rate: Gcra,
    line_rate: Gcra,
    lines: Tat,
    networks: HashMap<IpAddr, Network>,
    kept_back_elsewhere: u64,
}

#[derive(Debug, Default)]
struct Network {
    failures: Tat,
    told_at: Option<MonotonicNanos>,
    kept_back: u64,
}

/// What becomes of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Judgement {
    /// Nanoseconds until the next one is answered as such, if this one is not.
    wait: Option<u64>,
    /// Whether to tell the log, and then how many it was not told of since the last time.
    tell: Option<u64>,
}

// === impl Throttle ===

impl Default for Throttle {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            failures: Mutex::default(),
            answered: AtomicU64::default(),
            throttled: AtomicU64::default(),
        }
    }
}

impl Throttle {
    /// Counts a token that is not valid against the address that sent it, and gives what is answered. The log is told
    /// unless somebody else does.
    pub(super) fn refuse(&self, reason: Reason, extensions: &Extensions, told: bool) -> Problem {
        // Every connection has an address. A request that was never on one, as in tests, counts against none.
        let Some(ConnectInfo(peer)) = extensions.get::<ConnectInfo<SocketAddr>>() else {
            self.answered.fetch_add(1, Ordering::Relaxed);
            return Problem::unauthenticated();
        };
        let elapsed = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let Judgement { wait, tell } = failures.note(network_of(peer.ip()), MonotonicNanos(elapsed), told);
        drop(failures);
        if let Some(kept_back) = tell {
            let throttled = wait.is_some();
            tracing::warn!(peer = %peer.ip(), %reason, throttled, kept_back, "an authentication failed");
        }
        match wait {
            None => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                Problem::unauthenticated()
            }
            Some(wait) => {
                self.throttled.fetch_add(1, Ordering::Relaxed);
                Problem::too_many_attempts(wait.div_ceil(SECOND))
            }
        }
    }

    /// How many there were.
    pub(super) fn totals(&self) -> FailureTotals {
        FailureTotals {
            answered: self.answered.load(Ordering::Relaxed),
            throttled: self.throttled.load(Ordering::Relaxed),
        }
    }
}

// === impl Failures ===

impl Default for Failures {
    fn default() -> Self {
        Self {
            rate: Gcra::new(FAILURES_A_MINUTE, MINUTE, FAILURES_A_MINUTE),
            line_rate: Gcra::new(LINES_A_MINUTE, MINUTE, LINES_A_MINUTE),
            lines: Tat::default(),
            networks: HashMap::new(),
            kept_back_elsewhere: 0,
        }
    }
}

impl Failures {
    fn note(&mut self, network: IpAddr, now: MonotonicNanos, told: bool) -> Judgement {
        if self.networks.len() >= MAX_NETWORKS && !self.networks.contains_key(&network) {
            self.forget();
        }
        let Self { rate, line_rate, lines, networks, kept_back_elsewhere } = self;
        let known = networks.entry(network).or_default();
        let wait = match rate.charge(known.failures, now, 1) {
            Verdict::Admitted(next) => {
                known.failures = next;
                None
            }
            Verdict::Refused { wait } => Some(wait),
        };
        if told {
            return Judgement { wait, tell: None };
        }
        known.kept_back += 1;
        if known.told_at.is_some_and(|told_at| now.0.saturating_sub(told_at.0) < MINUTE) {
            return Judgement { wait, tell: None };
        }
        let Verdict::Admitted(next) = line_rate.charge(*lines, now, 1) else {
            return Judgement { wait, tell: None };
        };
        *lines = next;
        known.told_at = Some(now);
        // This one is told of.
        let kept_back = std::mem::take(&mut known.kept_back) - 1 + std::mem::take(kept_back_elsewhere);
        Judgement { wait, tell: Some(kept_back) }
    }

    /// Makes room: the half goes that has failed least or longest ago. So nobody gets rid of what is held against one
    /// address by failing from others, unless they fail as often.
    fn forget(&mut self) {
        let mut ends: Vec<u64> = self.networks.values().map(|network| network.failures.0).collect();
        let middle = ends.len() / 2;
        let (_, &mut median, _) = ends.select_nth_unstable(middle);
        let mut room = ends.len() - middle;
        let kept_back = &mut self.kept_back_elsewhere;
        self.networks.retain(|_, network| {
            let goes = network.failures.0 <= median && room > 0;
            if goes {
                room -= 1;
                *kept_back += network.kept_back;
            }
            !goes
        });
    }
}

/// What counts as one address.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let mask = u128::MAX << (Ipv6Addr::BITS - IPV6_NETWORK_BITS);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Method, Request, StatusCode, header};
    use serde_json::json;

    use super::*;
    use crate::http::testing::{Answer, Plane, Warnings, request};

    const HERE: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    fn numbered(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn an_address_is_answered_at_its_rate_and_told_of_once_a_minute() {
        let mut failures = Failures::default();
        let start = 7 * SECOND;
        let mut note = |at| failures.note(HERE, MonotonicNanos(start + at), false);
        assert_eq!(note(0), Judgement { wait: None, tell: Some(0) });
        for _ in 1..60 {
            assert_eq!(note(0), Judgement { wait: None, tell: None });
        }
        assert_eq!(note(0), Judgement { wait: Some(SECOND), tell: None });
        assert_eq!(note(SECOND / 2), Judgement { wait: Some(SECOND / 2), tell: None });
        assert_eq!(note(SECOND), Judgement { wait: None, tell: None });
        assert_eq!(note(SECOND), Judgement { wait: Some(SECOND), tell: None });
        assert_eq!(note(MINUTE), Judgement { wait: None, tell: Some(63) });
    }

    #[test]
    fn addresses_are_apart_and_those_of_an_ipv6_network_are_not() {
        let address = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(address("2001:db8:0:1::7"), address("2001:db8:0:1:ffff::"));
        assert_ne!(address("2001:db8:0:1::7"), address("2001:db8:0:2::7"));
        assert_ne!(address("192.0.2.7"), address("192.0.2.8"));
        assert_eq!(address("::ffff:192.0.2.7"), address("192.0.2.7"));
        let mut failures = Failures::default();
        for _ in 0..100 {
            failures.note(HERE, MonotonicNanos(0), false);
        }
        assert_eq!(failures.note(numbered(1), MonotonicNanos(0), false).wait, None);
    }

    #[test]
    fn the_log_has_its_own_rate_and_loses_no_count() {
        let mut failures = Failures::default();
        let mut told = 0;
        let mut lines = 0;
        let mut noted = 0;
        for minute in 0..3 {
            for number in 0..3 * MAX_NETWORKS as u32 {
                noted += 1;
                let now = MonotonicNanos(2 * minute * MINUTE);
                if let Some(kept_back) = failures.note(numbered(number), now, false).tell {
                    lines += 1;
                    told += 1 + kept_back;
                }
                assert!(failures.networks.len() <= MAX_NETWORKS);
            }
        }
        assert_eq!(lines, 3 * 60);
        let waiting: u64 = failures.networks.values().map(|network| network.kept_back).sum();
        assert_eq!(told + waiting + failures.kept_back_elsewhere, noted);
    }

    #[test]
    fn many_addresses_do_not_wash_one_away() {
        let mut failures = Failures::default();
        for _ in 0..100 {
            failures.note(HERE, MonotonicNanos(0), false);
        }
        for number in 0..20 * MAX_NETWORKS as u32 {
            assert_eq!(failures.note(numbered(number), MonotonicNanos(0), true).wait, None);
        }
        assert!(failures.note(HERE, MonotonicNanos(0), true).wait.is_some());
    }

    async fn call_from(plane: &Plane, peer: [u8; 4], path: &str, token: &str) -> Answer {
        let mut request = request(Method::GET, path, token, None);
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from((peer, 4711))));
        plane.call(request).await
    }

    #[tokio::test]
    async fn a_valid_token_is_taken_whatever_fails_at_its_address() {
        let (warnings, _logging) = Warnings::gather();
        let plane = Plane::new().await;
        const NAT: [u8; 4] = [192, 0, 2, 7];
        const ELSEWHERE: [u8; 4] = [192, 0, 2, 8];
        let mut statuses = Vec::new();
        for _ in 0..100 {
            statuses.push(call_from(&plane, NAT, "/v1/keys", "omf_token_wrong").await.status.as_u16());
        }
        assert_eq!(statuses[..60], [401; 60]);
        assert_eq!(statuses[99], 429);
        let throttled = call_from(&plane, NAT, "/v1/keys", "omf_token_wrong").await;
        assert_eq!(throttled.problem(), (429, "too_many_attempts".to_owned(), String::new()));
        assert_eq!(throttled.headers[header::RETRY_AFTER], "1");
        let wrong = call_from(&plane, ELSEWHERE, "/v1/keys", "omf_token_wrong").await;
        assert_eq!(wrong.status, StatusCode::UNAUTHORIZED, "another address");
        for token in [plane.owner.clone(), plane.token("admin").await] {
            assert_eq!(call_from(&plane, NAT, "/v1/keys", &token).await.status, StatusCode::OK);
        }
        // What is refused for its role, or has no token at all, was no attempt.
        let gateway = plane.token("gateway").await;
        assert_eq!(call_from(&plane, NAT, "/v1/keys", &gateway).await.status, StatusCode::FORBIDDEN);
        let mut without = Request::get("/v1/keys").body(Body::empty()).unwrap();
        without.extensions_mut().insert(ConnectInfo(SocketAddr::from((NAT, 4711))));
        assert_eq!(plane.call(without).await.status, StatusCode::UNAUTHORIZED);

        let text = warnings.text();
        assert_eq!(text.matches("an authentication failed").count(), 2, "{text}");
        assert!(text.contains("peer=192.0.2.7 ") && !text.contains("omf_token"), "{text}");
        let metrics = plane.get("/metrics").await;
        let metrics = String::from_utf8_lossy(&metrics.body);
        let number = |name: &str| -> u64 {
            let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        let answered = number("omf_failed_authentications_total{throttled=\"false\"}");
        let throttled = number("omf_failed_authentications_total{throttled=\"true\"}");
        assert_eq!(answered + throttled, 102);
        assert!(throttled >= 30, "{throttled}: a test as slow as this refills the bucket");
    }

    #[tokio::test]
    async fn signing_in_is_throttled_and_works_with_a_valid_token_all_the_same() {
        let plane = Plane::new().await;
        let sign_in = async |token: &str| {
            let mut request = Request::post("/sign-in")
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .header("sec-fetch-site", "same-origin")
                .body(Body::from(format!("token={token}")))
                .unwrap();
            request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 7], 4711))));
            plane.call(request).await
        };
        assert_eq!(sign_in("omf_token_wrong").await.status, StatusCode::UNPROCESSABLE_ENTITY);
        let mut last = sign_in("omf_token_wrong").await;
        for _ in 0..100 {
            last = sign_in("omf_token_wrong").await;
        }
        assert_eq!(last.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(last.headers.contains_key(header::RETRY_AFTER));
        let text = String::from_utf8_lossy(&last.body).into_owned();
        assert!(text.contains("It is taken at once") || text.contains("it is taken at once"), "{text}");
        assert_eq!(sign_in(&plane.owner).await.status, StatusCode::SEE_OTHER);
    }

    #[tokio::test]
    async fn unknown_tokens_do_not_reach_the_database_and_revoked_ones_end() {
        let plane = Plane::new().await;
        let admin = plane.token("admin").await;
        let path = plane.path_of_token("the admin").await;
        assert_eq!(call_from(&plane, [192, 0, 2, 7], "/v1/keys", &admin).await.status, StatusCode::OK);
        assert_eq!(plane.delete(&path).await.status, StatusCode::NO_CONTENT);
        plane.app.storage.close().await;
        for token in [admin.as_str(), "omf_token_wrong"] {
            let answer = call_from(&plane, [192, 0, 2, 7], "/v1/keys", token).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "it was answered without the database");
        }
        let known = call_from(&plane, [192, 0, 2, 7], "/v1/keys", &plane.owner).await;
        assert_eq!(known.status, StatusCode::INTERNAL_SERVER_ERROR, "the database decides on known ones");
    }

    #[tokio::test]
    async fn gateways_are_slowed_by_nothing_once_their_token_is_right() {
        let plane = Plane::new().await;
        let poll = async |token: &str| {
            let body = json!({"gateway": "edge", "incarnation": "000000000000000b", "filter_version": "0.1.0",
                "snapshot_format": 1, "installation": null, "version": 0, "wait_ms": 0, "clock": 1_800_000_000_000_u64, "vms": []});
            let mut request = request(Method::POST, "/gateway/v1/poll", token, Some(body));
            request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 7], 4711))));
            plane.call(request).await.status
        };
        let mut last = StatusCode::OK;
        for _ in 0..100 {
            last = poll("omf_token_wrong").await;
        }
        assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
        let right = plane.token("gateway").await;
        assert_eq!(poll(&right).await, StatusCode::OK);
        let plane = plane.restart().await;
        assert_eq!(
            call_from(&plane, [192, 0, 2, 7], "/v1/keys", &plane.owner).await.status,
            StatusCode::OK,
            "tokens are known after a restart"
        );
    }
}
