//! The audit log: every call, newest first; what is missing in it; what it amounts to; and new calls as they come.

pub(super) mod export;
pub(super) mod gaps;
pub(in crate::http) mod list;
pub(in crate::http) mod overview;
pub(in crate::http) mod patterns;
pub(super) mod payload;
pub(super) mod show;
pub(in crate::http) mod stats;
pub(super) mod stream;

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use omniflow_policy::outcome::Outcome;
use serde::Deserialize;
use utoipa::IntoParams;

use super::access::{AUDIT, Endpoints, OWNER, READ};
use super::query;
use crate::storage::{AuditFilter, KeyReference};
use omniflow_api_types::schema;
use omniflow_domain::error::Error;

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints
        .get("/v1/audit", READ, list::list)
        .get("/v1/audit/gaps", READ, gaps::gaps)
        .get("/v1/audit/patterns", READ, patterns::patterns)
        .get("/v1/audit/stats", READ, stats::stats)
        .get("/v1/audit/export", READ, export::export)
        .get("/v1/audit/stream", READ, stream::stream)
        .get("/v1/audit/{id}", READ, show::show)
        .get("/v1/audit/{id}/payload", AUDIT, payload::show)
        .post("/v1/audit/payload-key/rotate", OWNER, payload::rotate_key)
}

/// Which calls.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FilterQuery {
    /// Calls of this key, by identifier or by its name at the time of the call.
    key: Option<String>,
    /// Calls with a key of this environment.
    #[param(value_type = Option<schema::Environment>)]
    environment: Option<String>,
    /// Calls to exactly this route template.
    endpoint: Option<String>,
    /// Calls with exactly this method.
    method: Option<String>,
    /// Calls with this status, or with one of this class.
    #[param(value_type = Option<schema::StatusFilter>)]
    status: Option<String>,
    /// Calls that were decided so.
    #[param(value_type = Option<schema::Decision>)]
    decision: Option<String>,
    /// Calls that were decided so for this reason.
    #[param(value_type = Option<schema::Reason>)]
    reason: Option<String>,
    /// Calls from this address, or from this network.
    #[param(value_type = Option<schema::Network>)]
    ip: Option<String>,
    /// Calls that began at this time or later.
    #[param(value_type = Option<schema::Instant>)]
    from: Option<String>,
    /// Calls that began before this time.
    #[param(value_type = Option<schema::Instant>)]
    to: Option<String>,
}

// === impl FilterQuery ===

impl FilterQuery {
    /// The filter that it states.
    fn read(self) -> Result<AuditFilter, Error> {
        Ok(AuditFilter {
            key: query::present(self.key).map(|key| KeyReference::from(key.as_str())),
            environment: query::parsed("environment", self.environment)?,
            endpoint: query::present(self.endpoint),
            method: query::present(self.method),
            status: status(self.status)?,
            decision: query::parsed("decision", self.decision)?,
            reason: reason(self.reason)?,
            network: network(self.ip)?,
            from: query::time("from", self.from)?,
            to: query::time("to", self.to)?,
        })
    }
}

/// `404`, or `4xx` for all of a class.
fn status(value: Option<String>) -> Result<Option<RangeInclusive<u16>>, Error> {
    let Some(text) = query::present(value) else {
        return Ok(None);
    };
    let class = text
        .strip_suffix("xx")
        .and_then(|class| class.parse().ok())
        .filter(|class: &u16| (1..=5).contains(class));
    let range = match class {
        Some(class) => Some(class * 100..=class * 100 + 99),
        None => text.parse().ok().filter(|status| *status <= 999).map(|status: u16| status..=status),
    };
    let wrong = || Error::invalid_query("status", "status is a status such as 404 or a class such as 4xx");
    range.map(Some).ok_or_else(wrong)
}

fn reason(value: Option<String>) -> Result<Option<Outcome>, Error> {
    let unknown = || {
        let known: Vec<&str> = Outcome::all().map(Outcome::reason).collect();
        Error::invalid_query("reason", format!("reason is one of {}", known.join(", ")))
    };
    query::present(value).map(|text| Outcome::from_reason(&text).ok_or_else(unknown)).transpose()
}

fn network(value: Option<String>) -> Result<Option<IpNet>, Error> {
    let wrong = || Error::invalid_query("ip", "ip is an address or a network such as 203.0.113.0/24");
    query::present(value)
        .map(|text| {
            let network = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse::<IpNet>());
            network.map_err(|_| wrong())
        })
        .transpose()
}
