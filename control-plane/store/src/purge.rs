//! Records that are purged early, and the gaps that stand for them.

use std::collections::BTreeMap;

use omniflow_domain::log_content::LogContent;
use omniflow_domain::time::HOUR_MS;
use omniflow_policy::time::UnixMillis;

/// A record that is purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgedRecord {
    /// Its number.
    pub id: i64,
    /// Its kind.
    pub content: LogContent,
    /// Its approximate size.
    pub bytes: u64,
    /// The gateway that sent it.
    pub gateway: String,
    /// When the first of its calls began.
    pub first: UnixMillis,
    /// When the last of its calls began.
    pub last: UnixMillis,
    /// Number of calls.
    pub calls: u64,
}

/// Calls of one gateway in one hour whose records are purged. They become one gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurgedCalls {
    /// When the first call began.
    pub first: UnixMillis,
    /// When the last call began.
    pub last: UnixMillis,
    /// Number of calls.
    pub calls: u64,
}

/// The calls of records, by gateway and whole hours since 1970.
pub fn by_gateway_and_hour(records: &[PurgedRecord]) -> BTreeMap<(&str, u64), PurgedCalls> {
    let mut purged: BTreeMap<(&str, u64), PurgedCalls> = BTreeMap::new();
    for record in records {
        let sum = purged.entry((record.gateway.as_str(), record.last.0 / HOUR_MS)).or_insert(PurgedCalls {
            first: record.first,
            last: record.last,
            calls: 0,
        });
        sum.first = sum.first.min(record.first);
        sum.last = sum.last.max(record.last);
        sum.calls = sum.calls.saturating_add(record.calls);
    }
    purged
}
