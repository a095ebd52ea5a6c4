//! The usage of a key, derived from its audited calls.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use omniflow_policy::denial::{Denial, Outcome};
use omniflow_policy::time::UnixMillis;

use crate::anomaly::Anomaly;
use crate::time::DAY_MS;

/// The period of the usage report, in milliseconds: 30 days.
pub const PERIOD_MS: u64 = 30 * DAY_MS;
/// Maximum number of calls that are evaluated, newest first.
pub const MAX_CALLS: u64 = 1_000_000;
/// Maximum number of endpoints, and of addresses, that are reported individually.
pub const MAX_LISTED: usize = 50;

/// Calls of one key with the same address, method, endpoint and outcome.
#[derive(Clone, Debug)]
pub struct CallGroup {
    /// The client address.
    pub address: Option<IpAddr>,
    /// The method.
    pub method: String,
    /// The template of the route; `None` where none matched.
    pub endpoint: Option<String>,
    /// The decision and its reason.
    pub outcome: Outcome,
    /// Number of calls.
    pub calls: u64,
    /// When the first call began.
    pub first: UnixMillis,
    /// When the last call began.
    pub last: UnixMillis,
}

/// Counts of some calls of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UseCounts {
    /// Number of calls.
    pub calls: u64,
    /// Number of refused calls.
    pub refused: u64,
    /// When the first call began.
    pub first: UnixMillis,
    /// When the last call began.
    pub last: UnixMillis,
}

/// The usage of a key in a period.
#[derive(Clone, Debug)]
pub struct KeyUse {
    /// Start of the period.
    pub from: UnixMillis,
    /// End of the period.
    pub to: UnixMillis,
    /// Whether these are all calls of the last 30 days; false if there were more than were evaluated.
    pub complete: bool,
    /// All calls; `None` if there are none.
    pub total: Option<UseCounts>,
    /// When the last allowed call began.
    pub last_allowed: Option<UnixMillis>,
    /// Refused calls by reason, most calls first.
    pub refusals: Vec<(&'static str, u64)>,
    /// Calls by method and endpoint, most calls first.
    pub endpoints: Vec<((String, Option<String>), UseCounts)>,
    /// Number of endpoints not listed.
    pub more_endpoints: usize,
    /// Calls by address: new addresses first, then most calls first.
    pub addresses: Vec<AddressUse>,
    /// Number of addresses not listed.
    pub more_addresses: usize,
    /// Number of new addresses.
    pub new_addresses: usize,
    /// Number of calls refused because their credential had been revoked.
    pub after_revocation: u64,
}

/// The usage of a key, and the anomalies found in it.
#[derive(Clone, Debug)]
pub struct KeyUsage {
    /// The usage of the key.
    pub calls: KeyUse,
    /// The newest anomalies.
    pub anomalies: Vec<Anomaly>,
}

/// Calls from one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressUse {
    /// The address.
    pub address: IpAddr,
    /// Its calls.
    pub tally: UseCounts,
    /// Whether the first call from it in the period was in the last 24 hours of it.
    pub is_new: bool,
}

/// The beginning of the period that ends at `now`.
pub fn period_start(now: UnixMillis) -> UnixMillis {
    UnixMillis(now.0.saturating_sub(PERIOD_MS))
}

// === impl UseCounts ===

impl UseCounts {
    fn of(group: &CallGroup) -> Self {
        let refused = if matches!(group.outcome, Outcome::Denied(_)) { group.calls } else { 0 };
        Self { calls: group.calls, refused, first: group.first, last: group.last }
    }

    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.refused += other.refused;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

// === impl KeyUse ===

impl KeyUse {
    /// Adds up the calls of the period that ends at `now`. `most` is the maximum number of calls passed, newest first.
    pub fn of(groups: &[CallGroup], most: u64, now: UnixMillis) -> Self {
        let total = sum(groups.iter().map(|group| ((), UseCounts::of(group)))).remove(&());
        let complete = total.is_none_or(|total| total.calls < most);
        let oldest = total.map(|total| total.first).filter(|_| !complete);
        let from = oldest.unwrap_or_else(|| period_start(now));
        let (endpoints, more_endpoints) = listed(
            sum(groups
                .iter()
                .map(|group| ((group.method.clone(), group.endpoint.clone()), UseCounts::of(group)))),
            |(_, tally)| Reverse(tally.calls),
        );
        let day_ago = UnixMillis(now.0.saturating_sub(DAY_MS));
        let by_address = sum(groups.iter().filter_map(|group| Some((group.address?, UseCounts::of(group)))));
        // This requires knowing the calls before the last 24 hours.
        let is_new = |tally: &UseCounts| from < day_ago && tally.first >= day_ago;
        let new_addresses = by_address.values().filter(|tally| is_new(tally)).count();
        let (addresses, more_addresses) =
            listed(by_address, |(_, tally)| (Reverse(is_new(tally)), Reverse(tally.calls)));
        let refusals = refusals(groups);
        let revoked = Denial::KeyRevoked.code();
        Self {
            from,
            to: now,
            complete,
            total,
            last_allowed: groups
                .iter()
                .filter(|group| group.outcome == Outcome::Allowed)
                .map(|group| group.last)
                .max(),
            after_revocation: refusals.iter().find(|(reason, _)| *reason == revoked).map_or(0, |(_, n)| *n),
            refusals,
            endpoints,
            more_endpoints,
            addresses: addresses
                .into_iter()
                .map(|(address, tally)| AddressUse { address, tally, is_new: is_new(&tally) })
                .collect(),
            more_addresses,
            new_addresses,
        }
    }
}

fn sum<K: Ord>(tallies: impl Iterator<Item = (K, UseCounts)>) -> BTreeMap<K, UseCounts> {
    let mut sums: BTreeMap<K, UseCounts> = BTreeMap::new();
    for (key, tally) in tallies {
        sums.entry(key).and_modify(|sum| sum.add(tally)).or_insert(tally);
    }
    sums
}

/// The first [`MAX_LISTED`] in this order, and the number of the others.
fn listed<K: Ord, O: Ord>(
    sums: BTreeMap<K, UseCounts>,
    order: impl Fn(&(K, UseCounts)) -> O,
) -> (Vec<(K, UseCounts)>, usize) {
    let mut all: Vec<(K, UseCounts)> = sums.into_iter().collect();
    all.sort_by_key(order);
    let more = all.len().saturating_sub(MAX_LISTED);
    all.truncate(MAX_LISTED);
    (all, more)
}

fn refusals(groups: &[CallGroup]) -> Vec<(&'static str, u64)> {
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for group in groups.iter().filter(|group| matches!(group.outcome, Outcome::Denied(_))) {
        *counts.entry(group.outcome.reason()).or_default() += group.calls;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, calls)| Reverse(*calls));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(100 * DAY_MS);

    fn group(address: u8, endpoint: &str, outcome: Outcome, calls: u64, days: (u64, u64)) -> CallGroup {
        let ago = |days: u64| UnixMillis(NOW.0 - days * DAY_MS);
        CallGroup {
            address: Some([203, 0, 113, address].into()),
            method: "GET".to_owned(),
            endpoint: Some(endpoint.to_owned()),
            outcome,
            calls,
            first: ago(days.0),
            last: ago(days.1),
        }
    }

    #[test]
    fn calls_are_added_up() {
        let revoked = Outcome::Denied(Denial::KeyRevoked);
        let groups = [
            group(1, "/a", Outcome::Allowed, 10, (20, 3)),
            group(1, "/b", Outcome::Allowed, 5, (25, 4)),
            group(2, "/a", Outcome::Denied(Denial::RateLimited), 2, (10, 9)),
            group(3, "/a", revoked, 1, (1, 0)),
        ];
        let used = KeyUse::of(&groups, MAX_CALLS, NOW);
        let total = used.total.unwrap();
        assert_eq!((total.calls, total.refused), (18, 3));
        assert_eq!((total.first, total.last), (UnixMillis(75 * DAY_MS), NOW));
        assert_eq!(used.last_allowed, Some(UnixMillis(97 * DAY_MS)));
        assert_eq!(used.refusals, [("rate_limited", 2), ("key_revoked", 1)]);
        let endpoints: Vec<_> =
            used.endpoints.iter().map(|((_, endpoint), tally)| (endpoint.as_deref(), tally.calls)).collect();
        assert_eq!(endpoints, [(Some("/a"), 13), (Some("/b"), 5)]);
        let addresses: Vec<_> =
            used.addresses.iter().map(|one| (one.address.to_string(), one.tally.calls, one.is_new)).collect();
        let expected = [("203.0.113.3", 1, true), ("203.0.113.1", 15, false), ("203.0.113.2", 2, false)];
        assert_eq!(addresses, expected.map(|(address, calls, new)| (address.to_owned(), calls, new)));
        assert_eq!((used.new_addresses, used.after_revocation, used.complete), (1, 1, true));
        assert_eq!(used.from, UnixMillis(70 * DAY_MS));
    }

    #[test]
    fn lists_are_bounded_and_hide_nothing_new() {
        let mut groups: Vec<_> =
            (0..60).map(|n| group(n, &format!("/{n}"), Outcome::Allowed, 100, (9, 8))).collect();
        groups.push(group(200, "/new", Outcome::Allowed, 1, (0, 0)));
        let used = KeyUse::of(&groups, MAX_CALLS, NOW);
        assert_eq!((used.addresses.len(), used.more_addresses), (MAX_LISTED, 11));
        assert_eq!((used.endpoints.len(), used.more_endpoints), (MAX_LISTED, 11));
        assert!(used.addresses[0].is_new && used.addresses[0].address.to_string() == "203.0.113.200");
    }

    #[test]
    fn what_is_not_known_is_not_reported() {
        let none = KeyUse::of(&[], MAX_CALLS, NOW);
        assert_eq!((none.total, none.last_allowed, none.complete), (None, None, true));
        // More calls than are evaluated, all within a day: the calls before are unknown.
        let used = KeyUse::of(&[group(1, "/a", Outcome::Allowed, MAX_CALLS, (0, 0))], MAX_CALLS, NOW);
        assert_eq!((used.complete, used.new_addresses, used.from), (false, 0, NOW));
    }
}
