//! Statistics of the calls in a period.

use std::cmp::Reverse;

use omniflow_domain::error::Error;
use omniflow_domain::stats::{
    CallCounts, CallStats, Dimension, GroupStats, GroupValue, MAX_GROUPS, StatsQuery,
};
use omniflow_domain::time::DAY_MS;
use omniflow_policy::time::UnixMillis;

use super::RequestLog;

/// Default number of groups.
const DEFAULT_GROUPS: usize = 100;

// === impl RequestLog ===

impl RequestLog {
    /// Counts the calls that a query selects.
    pub async fn stats(&self, query: StatsQuery) -> Result<CallStats, Error> {
        let StatsQuery { filter, by, limit } = query;
        let by = by.dimensions().to_vec();
        let default = if by == [Dimension::Hour] { MAX_GROUPS } else { DEFAULT_GROUPS };
        let limit = limit.unwrap_or(default);
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
