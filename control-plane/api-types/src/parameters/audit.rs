//! The parameters of lists, statistics and exports of the audit log.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use omniflow_domain::audit_query::AuditFilter;
use omniflow_domain::key::KeyReference;
use omniflow_domain::stats::{MAX_GROUPS, StatsQuery};
use omniflow_policy::denial::Outcome;
use serde::Deserialize;
use utoipa::IntoParams;

use super::page::limit;
use super::query::{InvalidQuery, Parser};
use crate::audit_lines::ExportFormat;
use crate::schema;

/// More than any code that is in use.
const MAX_GRPC_STATUS: u32 = 999_999_999;

/// The filter of calls.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditParameters {
    /// Only calls with the key that has this identifier, or had this name at the time of the call.
    pub key: Option<String>,
    /// Only calls with keys in this environment.
    #[param(value_type = Option<schema::Environment>)]
    pub environment: Option<String>,
    /// Only calls to the route with exactly this path template.
    pub endpoint: Option<String>,
    /// Only calls with exactly this method.
    pub method: Option<String>,
    /// Only calls with this status, or with a status of this class.
    #[param(value_type = Option<schema::StatusFilter>)]
    pub status: Option<String>,
    /// Only gRPC calls with this status, or with any status other than 0.
    #[param(value_type = Option<schema::GrpcStatusFilter>)]
    pub grpc_status: Option<String>,
    /// Only calls with this decision.
    #[param(value_type = Option<schema::Decision>)]
    pub decision: Option<String>,
    /// Only calls with this reason for the decision.
    #[param(value_type = Option<schema::Reason>)]
    pub reason: Option<String>,
    /// Only calls from this address or network.
    #[param(value_type = Option<schema::Network>)]
    pub ip: Option<String>,
    /// Only calls that began at or after this time.
    #[param(value_type = Option<schema::Instant>)]
    pub from: Option<String>,
    /// Only calls that began before this time.
    #[param(value_type = Option<schema::Instant>)]
    pub to: Option<String>,
}

/// The grouping of statistics.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StatsParameters {
    /// Properties to group calls by; `hour` if omitted.
    #[param(value_type = Option<schema::Dimensions>)]
    pub by: Option<String>,
    /// Maximum number of groups, sorted by number of calls. Default: 100, or 1,000 when grouped by `hour` only. The
    /// remaining groups are combined in `other`.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1_000)]
    pub limit: Option<String>,
}

/// The format of an export.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ExportParameters {
    /// `ndjson` (default): one JSON document per line; `csv`: RFC 4180 with a header.
    #[param(value_type = Option<schema::ExportFormat>)]
    pub format: Option<String>,
}

// === impl AuditParameters ===

impl AuditParameters {
    /// The filter.
    pub fn parse(self) -> Result<AuditFilter, InvalidQuery> {
        let mut parser = Parser::default();
        let filter = AuditFilter {
            key: Parser::text(self.key).map(|key| KeyReference::from(key.as_str())),
            environment: parser.parsed("environment", self.environment),
            endpoint: Parser::text(self.endpoint),
            method: Parser::text(self.method),
            status: parser.read("status", self.status, status),
            grpc_status: parser.read("grpc_status", self.grpc_status, grpc_status),
            decision: parser.parsed("decision", self.decision),
            reason: parser.read("reason", self.reason, reason),
            network: parser.read("ip", self.ip, network),
            from: parser.time("from", self.from),
            to: parser.time("to", self.to),
        };
        parser.finish(filter)
    }
}

/// `404`, or `4xx` for all of a class.
fn status(text: &str) -> Result<RangeInclusive<u16>, &'static str> {
    let class = text
        .strip_suffix("xx")
        .and_then(|class| class.parse().ok())
        .filter(|class: &u16| (1..=5).contains(class));
    let range = match class {
        Some(class) => Some(class * 100..=class * 100 + 99),
        None => text.parse().ok().filter(|status| *status <= 999).map(|status: u16| status..=status),
    };
    range.ok_or("status must be a code such as 404 or a class such as 4xx")
}

/// `14`, or `error` for all but 0.
fn grpc_status(text: &str) -> Result<RangeInclusive<u32>, &'static str> {
    if text == "error" {
        return Ok(1..=u32::MAX);
    }
    let code = text.parse().ok().filter(|code| *code <= MAX_GRPC_STATUS);
    code.map(|code| code..=code).ok_or("grpc_status must be a code such as 14, or error for all codes but 0")
}

fn reason(text: &str) -> Result<Outcome, String> {
    Outcome::from_reason(text).ok_or_else(|| {
        let known: Vec<&str> = Outcome::all().map(Outcome::reason).collect();
        format!("reason must be one of {}", known.join(", "))
    })
}

fn network(text: &str) -> Result<IpNet, &'static str> {
    let network = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse::<IpNet>());
    network.map_err(|_| "ip must be an address or a network such as 203.0.113.0/24")
}

// === impl StatsParameters ===

impl StatsParameters {
    /// The request for the statistics of the calls that `filter` selects.
    pub fn parse(self, filter: AuditParameters) -> Result<StatsQuery, InvalidQuery> {
        let mut parser = Parser::default();
        let by = parser.parsed("by", self.by).unwrap_or_default();
        let limit = parser.read("limit", self.limit, |text| limit(text, MAX_GROUPS));
        let (filter, (by, limit)) = InvalidQuery::join(filter.parse(), parser.finish((by, limit)))?;
        Ok(StatsQuery { filter, by, limit })
    }
}

// === impl ExportParameters ===

impl ExportParameters {
    /// The format.
    pub fn parse(self) -> Result<ExportFormat, InvalidQuery> {
        let mut parser = Parser::default();
        let format = parser.parsed("format", self.format).unwrap_or(ExportFormat::Ndjson);
        parser.finish(format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn every_invalid_parameter_is_reported() {
        let wrong = AuditParameters {
            environment: some("prod"),
            status: some("6xx"),
            grpc_status: some("unavailable"),
            decision: some("maybe"),
            reason: some("because"),
            ip: some("here"),
            from: some("yesterday"),
            to: some("now"),
            ..AuditParameters::default()
        };
        let fields = |invalid: InvalidQuery| -> Vec<String> {
            invalid.errors().map(|error| error.field().unwrap_or_default().to_owned()).collect()
        };
        let filter = ["environment", "status", "grpc_status", "decision", "reason", "ip", "from", "to"];
        assert_eq!(fields(wrong.clone().parse().unwrap_err()), filter);
        let grouping = StatsParameters { by: some("day"), limit: some("1001") };
        let all: Vec<&str> = filter.into_iter().chain(["by", "limit"]).collect();
        assert_eq!(fields(grouping.parse(wrong).unwrap_err()), all);
    }

    #[test]
    fn grpc_status_is_a_code_or_any_error() {
        let range = |text| {
            let parameters = AuditParameters { grpc_status: some(text), ..AuditParameters::default() };
            parameters.parse().ok().and_then(|filter| filter.grpc_status)
        };
        assert_eq!(range("0"), Some(0..=0));
        assert_eq!(range("14"), Some(14..=14));
        assert_eq!(range("error"), Some(1..=u32::MAX));
        for wrong in ["-1", "1000000000", "x"] {
            assert_eq!(range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_empty_parameter_is_absent() {
        let parameters = AuditParameters {
            status: some("4xx"),
            ip: some(""),
            key: some(""),
            ..AuditParameters::default()
        };
        let expected = AuditFilter { status: Some(400..=499), ..AuditFilter::default() };
        assert_eq!(parameters.parse(), Ok(expected));
    }
}
