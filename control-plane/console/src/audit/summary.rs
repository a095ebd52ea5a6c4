//! The charts above the list of calls: calls by status, latency, and the most frequent keys, endpoints and IP addresses.

use std::cmp::Reverse;
use std::collections::HashMap;

use omniflow_policy::time::UnixMillis;

use super::query::Query;
use crate::chart::{Column, Columns, Line, Lines, Place, Ranking, RankingLine, Series};
use crate::format::{At, Count, Moment, utc, utc_seconds};
use omniflow_domain::stats::CallCounts;
use omniflow_domain::time::format_time;
use omniflow_service::audit::timeline::{AuditedUser, Overview};

/// Number of lines of a ranking.
const RANKED: usize = 6;
const MINUTE_MS: u64 = 60_000;

/// Summary of calls.
pub(super) struct CallSummary {
    pub(super) from: At,
    pub(super) to: At,
    pub(super) calls: Count,
    pub(super) errors: [(&'static str, Count, String); 3],
    pub(super) columns: Columns,
    pub(super) lines: Lines,
    /// The time since which calls are counted, if not all are, and the path that counts all.
    pub(super) cut: Option<(Moment, String)>,
    pub(super) rankings: [Ranking; 3],
    /// Number of calls that the rankings cover, and the time of the oldest.
    pub(super) ranked: Option<(Count, Moment)>,
}

// === impl CallSummary ===

impl CallSummary {
    pub(super) fn new(overview: &Overview, query: &Query) -> Self {
        let Overview { from, to, width, timeline, newest } = overview;
        let none = CallCounts::default();
        let first = from.0 / width * width;
        let stretches = (first..to.0).step_by(usize::try_from(*width).unwrap_or(usize::MAX));
        let stretches: Vec<(u64, &CallCounts)> =
            stretches.map(|start| (start, timeline.stretches.get(&start).unwrap_or(&none))).collect();
        let label = |start: u64| {
            let start = UnixMillis(start);
            if *width < MINUTE_MS { utc_seconds(start) } else { utc(start) }
        };
        let within = |start: u64, tally: &CallCounts| {
            let (from, to) = (start.max(from.0), start.saturating_add(*width).min(to.0));
            let (from, to) = (format_time(UnixMillis(from)), format_time(UnixMillis(to)));
            (tally.calls > 0).then(|| query.link(&[("from", &from), ("to", &to)]))
        };
        let columns = stretches.iter().map(|(start, tally)| Column {
            label: label(*start),
            values: values(tally),
            path: within(*start, tally),
        });
        let places = stretches.iter().map(|(start, tally)| Place {
            label: label(*start),
            values: [50, 95, 99].map(|percent| tally.percentile(percent)).to_vec(),
            path: within(*start, tally),
        });
        let line = |name, percent| Line { name, overall: timeline.total.percentile(percent) };
        let series = |name, pattern| Series { name, pattern };
        let total = &timeline.total;
        Self {
            from: At(*from),
            to: At(*to),
            calls: Count(total.calls),
            errors: [
                ("4xx", Count(total.client_errors), query.link(&[("status", "4xx")])),
                ("5xx", Count(total.server_errors), query.link(&[("status", "5xx")])),
                ("gRPC errors", Count(total.grpc_errors), query.link(&[("grpc_status", "error")])),
            ],
            columns: Columns {
                title: "Calls by status over time".to_owned(),
                by: "Time",
                series: vec![
                    series("OK", "good"),
                    series("4xx", "warn"),
                    series("5xx and gRPC errors", "bad"),
                ],
                columns: columns.collect(),
            },
            lines: Lines {
                title: "Latency over time".to_owned(),
                by: "Time",
                lines: vec![line("p50", 50), line("p95", 95), line("p99", 99)],
                places: places.collect(),
            },
            cut: timeline.counted_from.map(|time| {
                let all = Query { count: "all".to_owned(), ..query.with(&[]) };
                (Moment(time), all.path("/audit", &[]))
            }),
            rankings: rankings(newest, query),
            ranked: ranked(newest),
        }
    }
}

fn values(tally: &CallCounts) -> Vec<u64> {
    let failures = tally.server_errors + tally.grpc_errors;
    vec![tally.calls.saturating_sub(tally.client_errors + failures), tally.client_errors, failures]
}

fn ranked(newest: &[AuditedUser]) -> Option<(Count, Moment)> {
    let calls = newest.iter().map(|user| user.calls).sum();
    newest.last().map(|user| (Count(calls), Moment(user.time)))
}

fn rankings(newest: &[AuditedUser], query: &Query) -> [Ranking; 3] {
    let (mut keys, mut endpoints, mut addresses) = (HashMap::new(), HashMap::new(), HashMap::new());
    for user in newest {
        // Calls are newest first, so the newest name of a key wins.
        let key = user.key.as_ref().map(|(id, _)| *id);
        let of_key = keys.entry(key).or_insert_with(|| (user.key.as_ref().map(|(_, name)| name), 0));
        of_key.1 += user.calls;
        *endpoints.entry(user.endpoint.as_deref()).or_insert(0) += user.calls;
        *addresses.entry(user.address).or_insert(0) += user.calls;
    }
    let link = |name: &str, value: &str| Some(query.link(&[(name, value)]));
    let keys = keys.into_iter().map(|(id, (name, value))| match (id, name) {
        (Some(id), Some(name)) => {
            RankingLine { label: name.clone(), value, note: None, path: link("key", &id.to_string()) }
        }
        _ => RankingLine { label: "no key".to_owned(), value, note: None, path: None },
    });
    let endpoints = endpoints.into_iter().map(|(endpoint, value)| RankingLine {
        label: endpoint.unwrap_or("no route").to_owned(),
        value,
        note: None,
        path: endpoint.and_then(|endpoint| link("endpoint", endpoint)),
    });
    let addresses = addresses.into_iter().map(|(address, value)| {
        let address = address.map(|address| address.to_string());
        let path = address.as_deref().and_then(|address| link("ip", address));
        RankingLine {
            label: address.unwrap_or_else(|| "many IP addresses".to_owned()),
            value,
            note: None,
            path,
        }
    });
    [
        Ranking { title: "Keys by calls", by: "Key", lines: largest(keys.collect()) },
        Ranking { title: "Endpoints by calls", by: "Endpoint", lines: largest(endpoints.collect()) },
        Ranking { title: "IP addresses by calls", by: "IP address", lines: largest(addresses.collect()) },
    ]
}

fn largest(mut lines: Vec<RankingLine>) -> Vec<RankingLine> {
    lines.sort_by(|one, other| {
        Reverse(one.value).cmp(&Reverse(other.value)).then(one.label.cmp(&other.label))
    });
    lines.truncate(RANKED);
    lines
}
