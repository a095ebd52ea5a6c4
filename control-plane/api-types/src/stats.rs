//! Statistics of calls, in JSON.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema;
use super::time::Time;
use omniflow_domain::stats::{CallCounts, CallStats, GroupStats, GroupValue};
use omniflow_domain::time::format_time;

/// Statistics of calls, by group.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = AuditStats)]
pub struct AuditStatsJson {
    /// Start of the period, inclusive.
    #[schema(value_type = schema::Instant)]
    pub from: Time,
    /// End of the period, exclusive.
    #[schema(value_type = schema::Instant)]
    pub to: Time,
    /// Properties that calls are grouped by.
    #[schema(value_type = Vec<schema::Dimension>)]
    pub by: Vec<Cow<'static, str>>,
    /// The groups: oldest first if `hour` is the first grouping, otherwise those with the most calls first.
    pub groups: Vec<StatsGroupJson>,
    /// Totals of the groups beyond `limit`; null if there are none.
    #[schema(required = true)]
    pub other: Option<StatsCountsJson>,
    /// Totals of all groups.
    pub total: StatsCountsJson,
}

/// A group of calls.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = StatsGroup)]
pub struct StatsGroupJson {
    /// Values that the calls share, in the order of `by`; null without a key, route, address or gRPC response.
    pub group: Vec<Option<String>>,
    /// Latest name of the key, if grouped by key.
    #[schema(required = true)]
    pub key_name: Option<String>,
    /// Call counts and latencies.
    pub counts: StatsCountsJson,
}

/// Call counts and latencies.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = StatsCounts)]
pub struct StatsCountsJson {
    /// Number of calls.
    pub calls: u64,
    /// Number of calls with a status from 400 to 499.
    pub client_errors: u64,
    /// Number of calls with a status from 500 to 599.
    pub server_errors: u64,
    /// Number of calls with a gRPC status other than 0, and a status below 400.
    pub grpc_errors: u64,
    /// Latency percentiles, in microseconds.
    pub latency_us: PercentilesJson,
}

/// Latency percentiles, by the nearest-rank method, rounded down to three significant digits. Null if there are no
/// calls.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Percentiles)]
pub struct PercentilesJson {
    /// Median, in microseconds.
    #[schema(required = true)]
    pub p50: Option<u64>,
    /// 95th percentile, in microseconds.
    #[schema(required = true)]
    pub p95: Option<u64>,
    /// 99th percentile, in microseconds.
    #[schema(required = true)]
    pub p99: Option<u64>,
}

impl From<CallStats> for AuditStatsJson {
    fn from(stats: CallStats) -> Self {
        Self {
            from: Time(stats.from),
            to: Time(stats.to),
            by: stats.by.iter().map(|dimension| dimension.as_str().into()).collect(),
            groups: stats.groups.into_iter().map(StatsGroupJson::from).collect(),
            other: stats.other.as_ref().map(StatsCountsJson::from),
            total: StatsCountsJson::from(&stats.total),
        }
    }
}

impl From<GroupStats> for StatsGroupJson {
    fn from(GroupStats { group, key_name, tally }: GroupStats) -> Self {
        Self { group: group.iter().map(text).collect(), key_name, counts: (&tally).into() }
    }
}

impl From<&CallCounts> for StatsCountsJson {
    fn from(tally: &CallCounts) -> Self {
        Self {
            calls: tally.calls,
            client_errors: tally.client_errors,
            server_errors: tally.server_errors,
            grpc_errors: tally.grpc_errors,
            latency_us: PercentilesJson {
                p50: tally.percentile(50),
                p95: tally.percentile(95),
                p99: tally.percentile(99),
            },
        }
    }
}

fn text(value: &GroupValue) -> Option<String> {
    match value {
        GroupValue::Nothing => None,
        GroupValue::Hour(time) => Some(format_time(*time)),
        GroupValue::Key(id) => Some(id.to_string()),
        GroupValue::Address(address) => Some(address.to_string()),
        GroupValue::Status(status) => Some(status.to_string()),
        GroupValue::GrpcStatus(status) => Some(status.to_string()),
        GroupValue::Text(text) => Some(text.clone()),
    }
}
