//! The filter of the request log, read from text.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use omniflow_domain::error::Error;
use omniflow_policy::denial::Outcome;

use crate::query;
use omniflow_store::{AuditFilter, KeyReference};

/// Which calls, as text. An absent or empty field selects all.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// The key, by identifier or by its name at the time of the call.
    pub key: Option<String>,
    /// The environment of the key.
    pub environment: Option<String>,
    /// The route template.
    pub endpoint: Option<String>,
    /// The method.
    pub method: Option<String>,
    /// A status such as `404`, or a class such as `4xx`.
    pub status: Option<String>,
    /// The decision.
    pub decision: Option<String>,
    /// The reason of the decision.
    pub reason: Option<String>,
    /// The source address, or its network.
    pub ip: Option<String>,
    /// Calls that began at this time or later.
    pub from: Option<String>,
    /// Calls that began before this time.
    pub to: Option<String>,
}

// === impl AuditQuery ===

impl AuditQuery {
    /// The filter that it states.
    pub fn read(self) -> Result<AuditFilter, Error> {
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
    let wrong = || Error::invalid_query("status", "status must be a code such as 404 or a class such as 4xx");
    range.map(Some).ok_or_else(wrong)
}

fn reason(value: Option<String>) -> Result<Option<Outcome>, Error> {
    let unknown = || {
        let known: Vec<&str> = Outcome::all().map(Outcome::reason).collect();
        Error::invalid_query("reason", format!("reason must be one of {}", known.join(", ")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_text_is_rejected_with_its_field() {
        let some = |text: &str| Some(text.to_owned());
        let all = AuditQuery::default();
        for (query, field) in [
            (AuditQuery { status: some("6xx"), ..all.clone() }, "status"),
            (AuditQuery { environment: some("prod"), ..all.clone() }, "environment"),
            (AuditQuery { reason: some("because"), ..all.clone() }, "reason"),
            (AuditQuery { ip: some("here"), ..all.clone() }, "ip"),
            (AuditQuery { to: some("now"), ..all.clone() }, "to"),
        ] {
            assert_eq!(query.read().err().unwrap().field(), Some(field));
        }
        let filter = AuditQuery { status: some("4xx"), ip: some(""), ..all }.read().unwrap();
        assert_eq!((filter.status, filter.network), (Some(400..=499), None));
    }
}
