//! The filters of the log as they stand in the address bar.

use serde::{Deserialize, Serialize};

use omniflow_service::audit::filter::AuditQuery;
use omniflow_service::query::PageRequest;

/// Calls of one page.
const PAGE_SIZE: &str = "50";

/// What the address says. All of it may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Query {
    pub(super) key: String,
    pub(super) environment: String,
    pub(super) endpoint: String,
    pub(super) method: String,
    pub(super) status: String,
    pub(super) decision: String,
    pub(super) reason: String,
    pub(super) ip: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) cursor: String,
    /// `all` to count all calls for the charts, however long it takes.
    pub(super) count: String,
}

/// A filter that is stated, and the address without it.
pub(super) struct Chip {
    pub(super) label: &'static str,
    pub(super) value: String,
    pub(super) without: String,
}

// === impl Query ===

impl Query {
    /// The filters by the names that the API has for them.
    fn filters(&self) -> [(&'static str, &'static str, &str); 10] {
        [
            ("key", "Key", &self.key),
            ("environment", "Environment", &self.environment),
            ("endpoint", "Endpoint", &self.endpoint),
            ("method", "Method", &self.method),
            ("status", "Status", &self.status),
            ("decision", "Decision", &self.decision),
            ("reason", "Reason", &self.reason),
            ("ip", "Address", &self.ip),
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
            "decision" => &mut self.decision,
            "reason" => &mut self.reason,
            "ip" => &mut self.ip,
            "from" => &mut self.from,
            "to" => &mut self.to,
            "cursor" => &mut self.cursor,
            _ => return None,
        })
    }

    /// The same search with other values, from its first page.
    pub(super) fn with(&self, changes: &[(&str, &str)]) -> Self {
        let mut changed = Self { cursor: String::new(), count: String::new(), ..self.clone() };
        for (name, value) in changes {
            if let Some(field) = changed.field(name) {
                (*value).clone_into(field);
            }
        }
        changed
    }

    /// Its address on a page with this path.
    pub(super) fn path(&self, path: &str, more: &[(&str, &str)]) -> String {
        let filters = self.filters().map(|(name, _, value)| (name, value));
        let others = [("cursor", self.cursor.as_str()), ("count", &self.count)];
        let all = filters.into_iter().chain(others).chain(more.iter().copied());
        let stated: Vec<_> = all.filter(|(_, value)| !value.is_empty()).collect();
        match serde_urlencoded::to_string(stated) {
            Ok(query) if !query.is_empty() => format!("{path}?{query}"),
            _ => path.to_owned(),
        }
    }

    /// The address of the log with other values, from its first page.
    pub(super) fn link(&self, changes: &[(&str, &str)]) -> String {
        self.with(changes).path("/audit", &[])
    }

    /// The filters that are stated.
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

    /// The filters as the use cases read them.
    pub(super) fn to_filter(&self) -> AuditQuery {
        let text = |text: &str| Some(text.trim().to_owned());
        AuditQuery {
            key: text(&self.key),
            environment: text(&self.environment),
            endpoint: text(&self.endpoint),
            method: text(&self.method),
            status: text(&self.status),
            decision: text(&self.decision),
            reason: text(&self.reason),
            ip: text(&self.ip),
            from: Some(instant(&self.from)),
            to: Some(instant(&self.to)),
        }
    }

    /// The page of the list.
    pub(super) fn to_page(&self) -> PageRequest {
        PageRequest { limit: Some(PAGE_SIZE.to_owned()), cursor: Some(self.cursor.clone()) }
    }
}

/// A time as the API reads it: what the field of a form sends has no zone, and is in UTC; a date is its beginning.
pub(crate) fn instant(text: &str) -> String {
    let text = text.trim().replacen(' ', "T", 1);
    let is_date = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let Some((_, time)) = text.split_once('T') else {
        return if is_date { format!("{text}T00:00:00Z") } else { text };
    };
    if time.is_empty() || time.contains(['Z', 'z', '+', '-']) {
        return text;
    }
    let seconds = if time.len() == 5 { ":00" } else { "" };
    format!("{text}{seconds}Z")
}

/// A time as the field of a form takes it: in UTC, without the zone.
pub(crate) fn for_field(text: &str) -> String {
    let instant = instant(text);
    let text = instant.strip_suffix('Z').unwrap_or(&instant);
    text.strip_suffix(".000").unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_come_back_from_the_address_they_make() {
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
        assert!(query.to_filter().read().is_ok());
        assert_eq!(query.to_page().cursor.as_deref(), Some("9-9"));
        assert_eq!(Query::default().path("/audit", &[("format", "csv")]), "/audit?format=csv");
    }

    #[test]
    fn times_without_a_zone_are_in_utc() {
        for (text, expected) in [
            ("2027-01-15T08:00", "2027-01-15T08:00:00Z"),
            ("2027-01-15 08:00:01.5", "2027-01-15T08:00:01.5Z"),
            ("2027-01-15", "2027-01-15T00:00:00Z"),
            ("2027-01-15T08:00:00.001Z", "2027-01-15T08:00:00.001Z"),
            ("2027-01-15T08:00:00+02:00", "2027-01-15T08:00:00+02:00"),
            ("yesterday", "yesterday"),
            ("", ""),
        ] {
            assert_eq!(instant(text), expected);
        }
        assert_eq!(for_field("2027-01-15T08:00:00.000Z"), "2027-01-15T08:00:00");
        assert_eq!(for_field(""), "");
    }
}
