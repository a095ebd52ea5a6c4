//! The filters of the audit log in the query string.

use serde::{Deserialize, Serialize};

use crate::list_query::{page_request, path_with_query};
use crate::time_field::to_instant;
use omniflow_api_types::parameters::{AuditParameters, InvalidQuery};
use omniflow_domain::audit_query::{AuditFilter, AuditPosition};
use omniflow_domain::page::PageRequest;

/// Calls per page.
const PAGE_SIZE: usize = 50;

/// The query string. Every parameter is optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Query {
    pub(super) key: String,
    pub(super) environment: String,
    pub(super) endpoint: String,
    pub(super) method: String,
    pub(super) status: String,
    pub(super) grpc_status: String,
    pub(super) decision: String,
    pub(super) reason: String,
    pub(super) ip: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) cursor: String,
    /// `all` to count all calls for the charts without a time limit.
    pub(super) count: String,
}

/// An active filter, and the path without it.
pub(super) struct Chip {
    pub(super) label: &'static str,
    pub(super) value: String,
    pub(super) without: String,
}

// === impl Query ===

impl Query {
    /// The filters: parameter name, label and value.
    fn filters(&self) -> [(&'static str, &'static str, &str); 11] {
        [
            ("key", "Key", &self.key),
            ("environment", "Environment", &self.environment),
            ("endpoint", "Endpoint", &self.endpoint),
            ("method", "Method", &self.method),
            ("status", "Status", &self.status),
            ("grpc_status", "gRPC status", &self.grpc_status),
            ("decision", "Decision", &self.decision),
            ("reason", "Reason", &self.reason),
            ("ip", "IP address", &self.ip),
            ("from", "From", &self.from),
            ("to", "Before", &self.to),
        ]
    }

    fn field(&mut self, name: &str) -> Option<&mut String> {
        Some(match name {
            "key" => &mut self.key,
            "environment" => &mut self.environment,
            "endpoint" => &mut self.endpoint,
            "method" => &mut self.method,
            "status" => &mut self.status,
            "grpc_status" => &mut self.grpc_status,
            "decision" => &mut self.decision,
            "reason" => &mut self.reason,
            "ip" => &mut self.ip,
            "from" => &mut self.from,
            "to" => &mut self.to,
            "cursor" => &mut self.cursor,
            _ => return None,
        })
    }

    /// The first page of the same search with other values.
    pub(super) fn with(&self, changes: &[(&str, &str)]) -> Self {
        let mut changed = Self { cursor: String::new(), count: String::new(), ..self.clone() };
        for (name, value) in changes {
            if let Some(field) = changed.field(name) {
                (*value).clone_into(field);
            }
        }
        changed
    }

    /// The search as a query string of this path, with more parameters.
    pub(super) fn path(&self, path: &str, more: &[(&str, &str)]) -> String {
        let filters = self.filters().map(|(name, _, value)| (name, value));
        let others = [("cursor", self.cursor.as_str()), ("count", &self.count)];
        path_with_query(path, filters.into_iter().chain(others).chain(more.iter().copied()))
    }

    /// The path of the first page of the same search with other values.
    pub(super) fn link(&self, changes: &[(&str, &str)]) -> String {
        self.with(changes).path("/audit", &[])
    }

    /// The active filters.
    pub(super) fn chips(&self) -> Vec<Chip> {
        let stated = self.filters().into_iter().filter(|(_, _, value)| !value.is_empty());
        stated
            .map(|(name, label, value)| Chip {
                label,
                value: value.to_owned(),
                without: self.link(&[(name, "")]),
            })
            .collect()
    }

    /// The filter for the use case.
    pub(super) fn to_filter(&self) -> Result<AuditFilter, InvalidQuery> {
        let text = |text: &str| Some(text.trim().to_owned());
        let parameters = AuditParameters {
            key: text(&self.key),
            environment: text(&self.environment),
            endpoint: text(&self.endpoint),
            method: text(&self.method),
            status: text(&self.status),
            grpc_status: text(&self.grpc_status),
            decision: text(&self.decision),
            reason: text(&self.reason),
            ip: text(&self.ip),
            from: Some(to_instant(&self.from)),
            to: Some(to_instant(&self.to)),
        };
        parameters.parse()
    }

    /// The filter and the page for the use case.
    pub(super) fn to_request(&self) -> Result<(AuditFilter, PageRequest<AuditPosition>), InvalidQuery> {
        InvalidQuery::join(self.to_filter(), page_request(PAGE_SIZE, &self.cursor))
    }
}

#[cfg(test)]
mod tests {
    use omniflow_policy::time::UnixMillis;

    use super::*;

    #[test]
    fn filters_survive_the_round_trip_through_the_query_string() {
        let query = Query {
            key: "a & b=<c>".to_owned(),
            endpoint: "/a/{id}?x".to_owned(),
            ip: "2001:db8::/32".to_owned(),
            from: "2027-01-15T08:00".to_owned(),
            cursor: "9-9".to_owned(),
            ..Query::default()
        };
        let path = query.path("/audit", &[]);
        let (_, text) = path.split_once('?').unwrap();
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(text).unwrap();
        let text = serde_urlencoded::to_string(&pairs).unwrap();
        assert_eq!(serde_urlencoded::from_str::<Query>(&text).unwrap(), query);
        let narrower = query.link(&[("status", "4xx"), ("ip", "")]);
        assert!(narrower.contains("status=4xx") && !narrower.contains("ip=") && !narrower.contains("cursor"));
        assert_eq!(query.chips().len(), 4);
        let (filter, page) = query.to_request().unwrap();
        assert_eq!(filter.from, Some(UnixMillis(1_800_000_000_000)));
        assert_eq!(page.after, Some(AuditPosition { time: UnixMillis(9), id: 9 }));
        assert_eq!(Query::default().path("/audit", &[("format", "csv")]), "/audit?format=csv");
    }
}
