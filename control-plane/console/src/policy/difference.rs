//! The differences between two policies, as lines.

use omniflow_policy::policy_diff::{ChangedRoute, MappedRoute};

use omniflow_domain::policy::PolicyComparison;

/// The differences between two policies.
pub(super) struct Difference {
    /// Reasons why a draft cannot be published.
    pub(super) blocked_by: Vec<String>,
    pub(super) lines: Vec<Line>,
}

/// A difference.
pub(super) struct Line {
    /// `added`, `removed` or `changed`.
    pub(super) kind: &'static str,
    /// `scope`, `route` or `setting`.
    pub(super) what: &'static str,
    pub(super) name: String,
    /// Value before; empty if it was added.
    pub(super) before: String,
    /// Value after; empty if it was removed.
    pub(super) after: String,
}

// === impl Difference ===

impl Difference {
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn count(&self, kind: &str) -> usize {
        self.lines.iter().filter(|line| line.kind == kind).count()
    }
}

impl From<PolicyComparison> for Difference {
    fn from(comparison: PolicyComparison) -> Self {
        let PolicyComparison { diff, blocked_by, .. } = comparison;
        let mut lines = Vec::new();
        let setting = |name: &str, before: String, after: String| Line {
            kind: "changed",
            what: "setting",
            name: name.to_owned(),
            before,
            after,
        };
        if let Some(change) = diff.key_prefix {
            lines.push(setting(
                "key_prefix",
                change.before.as_str().to_owned(),
                change.after.as_str().to_owned(),
            ));
        }
        if let Some(change) = diff.imported_keys {
            lines.push(setting("imported_keys", change.before.to_string(), change.after.to_string()));
        }
        if let Some(change) = diff.payloads {
            let text = |value| serde_json::to_string(value).unwrap_or_default();
            lines.push(setting("payloads", text(&change.before), text(&change.after)));
        }
        let scope = |kind: &'static str, name: String, before: String, after: String| Line {
            kind,
            what: "scope",
            name,
            before,
            after,
        };
        let none = String::new;
        lines.extend(
            diff.scopes
                .removed
                .into_iter()
                .map(|one| scope("removed", one.name.to_string(), one.description, none())),
        );
        lines.extend(
            diff.scopes
                .added
                .into_iter()
                .map(|one| scope("added", one.name.to_string(), none(), one.description)),
        );
        lines.extend(diff.scopes.changed.into_iter().map(|one| {
            scope("changed", one.name.to_string(), one.description.before, one.description.after)
        }));
        lines.extend(diff.routes.removed.into_iter().map(|route| Line::route("removed", route)));
        lines.extend(diff.routes.added.into_iter().map(|route| Line::route("added", route)));
        lines.extend(diff.routes.changed.into_iter().map(Line::changed_route));
        let blocked_by = blocked_by.iter().map(|error| error.detail().to_owned()).collect();
        Self { blocked_by, lines }
    }
}

/// Formats the redacted parameters of a route.
fn redacted(parameters: &[String]) -> String {
    if parameters.is_empty() {
        "nothing redacted".to_owned()
    } else {
        format!("redacted: {}", parameters.join(" "))
    }
}

// === impl Line ===

impl Line {
    fn route(kind: &'static str, route: MappedRoute) -> Self {
        let MappedRoute { path, method, scope, payload, redact } = route;
        let mut needs = format!("{scope}{}", if payload { "" } else { ", payload not stored" });
        if !redact.is_empty() {
            needs = format!("{needs}, {}", redacted(&redact));
        }
        let (before, after) = if kind == "removed" { (needs, String::new()) } else { (String::new(), needs) };
        Self { kind, what: "route", name: format!("{} {path}", String::from(method)), before, after }
    }

    fn changed_route(route: ChangedRoute) -> Self {
        let ChangedRoute { path, method, scope, payload, redact } = route;
        let stored = |payload: bool| if payload { "payload stored" } else { "payload not stored" }.to_owned();
        let mut sides = (Vec::new(), Vec::new());
        if let Some(change) = scope {
            sides.0.push(change.before.to_string());
            sides.1.push(change.after.to_string());
        }
        if let Some(change) = payload {
            sides.0.push(stored(change.before));
            sides.1.push(stored(change.after));
        }
        if let Some(change) = redact {
            sides.0.push(redacted(&change.before));
            sides.1.push(redacted(&change.after));
        }
        Self {
            kind: "changed",
            what: "route",
            name: format!("{} {path}", String::from(method)),
            before: sides.0.join(", "),
            after: sides.1.join(", "),
        }
    }
}
