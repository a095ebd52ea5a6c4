//! What the calls of a period amount to.

use std::cmp::Reverse;

use omniflow_domain::error::Error;
use omniflow_domain::stats::{CallCounts, CallStats, Dimension, GroupStats, GroupValue, InvalidDimension};
use omniflow_domain::time::DAY_MS;
use omniflow_policy::time::UnixMillis;

use super::RequestLog;
use super::filter::AuditQuery;
use crate::query;

/// The period that is counted where none is stated, in milliseconds.
/// The groups where no limit is stated.
const DEFAULT_GROUPS: usize = 100;
/// The maximum of groups: more than the hours of a month.
const MAX_GROUPS: usize = 1_000;

/// Which calls, in which groups, as text.
#[derive(Clone, Debug, Default)]
pub struct StatsQuery {
    /// Which calls; of the last 24 hours before `to` unless `from` is stated.
    pub filter: AuditQuery,
    /// One or two dimensions, separated by a comma; `hour` if not stated.
    pub by: Option<String>,
    /// The maximum of groups; 100 if not stated, or 1,000 by hour alone.
    pub limit: Option<String>,
}

// === impl RequestLog ===

impl RequestLog {
    /// Counts the calls that a query selects.
    pub async fn stats(&self, query: StatsQuery) -> Result<CallStats, Error> {
        let filter = query.filter.read()?;
        let (by, limit) = grouping(query.by, query.limit)?;
        let to = filter.to.unwrap_or_else(|| self.clock.now());
        let from = filter.from.unwrap_or(UnixMillis(to.0.saturating_sub(DAY_MS)));
        let store = &*self.store;
        let stats = store.audit_stats(&filter, (from, to), &by, limit).await?;
        let mut found: Vec<(Vec<GroupValue>, CallCounts)> = stats.groups.into_iter().collect();
        if by.first() == Some(&Dimension::Hour) {
            found.sort_by(|(one, _), (other, _)| one.cmp(other));
        } else {
            found
                .sort_by(|(one, a), (other, b)| Reverse(a.calls).cmp(&Reverse(b.calls)).then(one.cmp(other)));
        }
        let mut groups = Vec::with_capacity(found.len());
        for (group, tally) in found {
            let key = group.iter().find_map(|value| match value {
                GroupValue::Key(id) => Some(*id),
                _ => None,
            });
            let key_name = match key {
                Some(id) => store.audited_key_name(id).await?,
                None => None,
            };
            groups.push(GroupStats { group, key_name, tally });
        }
        let other = (stats.other.calls > 0).then_some(stats.other);
        Ok(CallStats { from, to, by, groups, other, total: stats.total })
    }
}

/// The dimensions and the maximum of groups.
fn grouping(by: Option<String>, limit: Option<String>) -> Result<(Vec<Dimension>, usize), Error> {
    let wrong = || Error::invalid_query("by", InvalidDimension);
    let text = query::present(by).unwrap_or_else(|| Dimension::Hour.as_str().to_owned());
    let by: Result<Vec<Dimension>, InvalidDimension> = text.split(',').map(str::parse).collect();
    let by = by.map_err(|_| wrong())?;
    if by.len() > 2 || by.first() == by.get(1) {
        return Err(wrong());
    }
    let wrong_limit =
        || Error::invalid_query("limit", format!("limit must be an integer from 1 to {MAX_GROUPS}"));
    let limit = match query::present(limit) {
        None if by == [Dimension::Hour] => MAX_GROUPS,
        None => DEFAULT_GROUPS,
        Some(text) => {
            text.parse().ok().filter(|limit| (1..=MAX_GROUPS).contains(limit)).ok_or_else(wrong_limit)?
        }
    };
    Ok((by, limit))
}
