//! Statistics of calls.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use crate::audit_query::AuditFilter;

/// Maximum number of groups: more than the hours of a month.
pub const MAX_GROUPS: usize = 1_000;

/// A property by which calls are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// The hour in which a call began, in UTC.
    Hour,
    /// The key.
    Key,
    /// The template of the route.
    Endpoint,
    /// The client address.
    Address,
    /// The status.
    Status,
    /// The status of a gRPC response.
    GrpcStatus,
    /// The decision's reason.
    Reason,
}

/// One or two different dimensions. The default is the hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grouping(Vec<Dimension>);

/// The text is not a grouping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "by must be one or two of hour, key, endpoint, address, status, grpc_status and reason, such as hour,key"
)]
pub struct InvalidGrouping;

/// Which calls to count, and in which groups.
#[derive(Clone, Debug, Default)]
pub struct StatsQuery {
    /// Which calls; those of the last 24 hours before `to` unless it has `from`.
    pub filter: AuditFilter,
    /// The dimensions of the groups.
    pub by: Grouping,
    /// The maximum of groups, at most [`MAX_GROUPS`]; `None` for 100, or [`MAX_GROUPS`] by hour alone.
    pub limit: Option<usize>,
}

/// How calls were answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnswerClass {
    /// With a status from 400 to 499.
    ClientError,
    /// With a status from 500 to 599.
    ServerError,
    /// With a gRPC status other than 0, and a status below 400.
    GrpcError,
    /// All others, including those without a response.
    Other,
}

/// The common value of the calls in a group, in one dimension.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupValue {
    /// No key, no route, no address or no gRPC response.
    Nothing,
    /// The beginning of an hour.
    Hour(UnixMillis),
    /// A key's identifier.
    Key(Uuid),
    /// An address.
    Address(IpAddr),
    /// A status.
    Status(u16),
    /// A status of a gRPC response.
    GrpcStatus(u32),
    /// A template or a reason.
    Text(String),
}

/// Counts of calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    /// All calls.
    pub calls: u64,
    /// Calls with a status from 400 to 499.
    pub client_errors: u64,
    /// Calls with a status from 500 to 599.
    pub server_errors: u64,
    /// Calls with a gRPC status other than 0, and a status below 400.
    pub grpc_errors: u64,
    /// Number of calls by latency, in microseconds with three significant digits.
    latencies: BTreeMap<u64, u64>,
}

/// The calls of a period, in groups.
#[derive(Clone, Debug)]
pub struct CallStats {
    /// Start of the period, inclusive.
    pub from: UnixMillis,
    /// End of the period, exclusive.
    pub to: UnixMillis,
    /// The dimensions of the groups.
    pub by: Vec<Dimension>,
    /// In the order of time if grouped by hour first, otherwise most calls first.
    pub groups: Vec<GroupStats>,
    /// The calls of the groups beyond the limit; `None` if there are none.
    pub other: Option<CallCounts>,
    /// All calls.
    pub total: CallCounts,
}

/// The calls of one group.
#[derive(Clone, Debug)]
pub struct GroupStats {
    /// The common values of the calls, in the order of the dimensions.
    pub group: Vec<GroupValue>,
    /// The newest name of the key, if grouped by key.
    pub key_name: Option<String>,
    /// The counts and latencies.
    pub tally: CallCounts,
}

// === impl Dimension ===

impl Dimension {
    /// All dimensions.
    pub const ALL: [Self; 7] =
        [Self::Hour, Self::Key, Self::Endpoint, Self::Address, Self::Status, Self::GrpcStatus, Self::Reason];

    /// Its name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Key => "key",
            Self::Endpoint => "endpoint",
            Self::Address => "address",
            Self::Status => "status",
            Self::GrpcStatus => "grpc_status",
            Self::Reason => "reason",
        }
    }
}

// === impl Grouping ===

impl Grouping {
    /// Its dimensions, in their order.
    pub fn dimensions(&self) -> &[Dimension] {
        &self.0
    }
}

impl Default for Grouping {
    fn default() -> Self {
        Self(vec![Dimension::Hour])
    }
}

impl FromStr for Grouping {
    type Err = InvalidGrouping;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let find = |name: &str| Dimension::ALL.into_iter().find(|dimension| dimension.as_str() == name);
        let dimensions: Option<Vec<Dimension>> = text.split(',').map(find).collect();
        match dimensions.as_deref() {
            Some([_]) => {}
            Some([first, second]) if first != second => {}
            _ => return Err(InvalidGrouping),
        }
        dimensions.map(Self).ok_or(InvalidGrouping)
    }
}

// === impl AnswerClass ===

impl AnswerClass {
    /// The class of a call with these statuses.
    pub fn of(status: u16, grpc_status: Option<u32>) -> Self {
        match (status, grpc_status) {
            (400..=499, _) => Self::ClientError,
            (500..=599, _) => Self::ServerError,
            (0..=399, Some(1..)) => Self::GrpcError,
            _ => Self::Other,
        }
    }
}

// === impl CallCounts ===

impl CallCounts {
    /// Adds calls of one class whose latencies have the same first three digits or are unknown.
    pub fn add(&mut self, class: AnswerClass, latency: Option<u64>, calls: u64) {
        self.calls += calls;
        match class {
            AnswerClass::ClientError => self.client_errors += calls,
            AnswerClass::ServerError => self.server_errors += calls,
            AnswerClass::GrpcError => self.grpc_errors += calls,
            AnswerClass::Other => {}
        }
        if let Some(latency) = latency {
            *self.latencies.entry(latency).or_default() += calls;
        }
    }

    /// The latency that this share of the calls does not exceed, by the nearest-rank method; `None` if no latency is
    /// known.
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let known: u64 = self.latencies.values().sum();
        let rank = known.saturating_mul(percent).div_ceil(100).max(1);
        let mut passed = 0;
        self.latencies.iter().find_map(|(latency, calls)| {
            passed += calls;
            (passed >= rank).then_some(*latency)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grouping_has_one_or_two_different_dimensions() {
        assert_eq!("hour".parse(), Ok(Grouping::default()));
        let parsed: Grouping = "key,status".parse().unwrap();
        assert_eq!(parsed.dimensions(), [Dimension::Key, Dimension::Status]);
        for wrong in ["", ",", "hour,", "day", "hour,hour", "hour,key,status", "Hour"] {
            assert_eq!(wrong.parse::<Grouping>(), Err(InvalidGrouping), "{wrong}");
        }
    }

    #[test]
    fn a_failed_grpc_call_is_an_error_although_its_status_is_200() {
        for (status, grpc_status, expected) in [
            (200, None, AnswerClass::Other),
            (200, Some(0), AnswerClass::Other),
            (200, Some(14), AnswerClass::GrpcError),
            (0, Some(14), AnswerClass::GrpcError),
            (0, None, AnswerClass::Other),
            (404, Some(12), AnswerClass::ClientError),
            (503, Some(14), AnswerClass::ServerError),
        ] {
            assert_eq!(AnswerClass::of(status, grpc_status), expected, "{status} {grpc_status:?}");
        }
    }

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let mut tally = CallCounts::default();
        assert_eq!(tally.percentile(50), None);
        for latency in 1..=100 {
            tally.add(AnswerClass::Other, Some(latency), 1);
        }
        let all = |tally: &CallCounts| [1, 50, 95, 99, 100].map(|percent| tally.percentile(percent).unwrap());
        assert_eq!(all(&tally), [1, 50, 95, 99, 100]);
        tally.add(AnswerClass::ServerError, Some(1_000), 900);
        assert_eq!(all(&tally), [10, 1_000, 1_000, 1_000, 1_000]);
        assert_eq!((tally.calls, tally.client_errors, tally.server_errors), (1_000, 0, 900));
        let mut one = CallCounts::default();
        one.add(AnswerClass::ClientError, Some(7), 1);
        // Aggregated calls are counted, but have no latencies.
        one.add(AnswerClass::ClientError, None, 1_000);
        assert_eq!((all(&one), one.calls, one.client_errors), ([7; 5], 1_001, 1_001));
    }
}
