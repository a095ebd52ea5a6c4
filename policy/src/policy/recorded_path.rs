//! The path of a call as it is recorded: without the parameters that the policy redacts.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Policy, Route};
use crate::audit::{MAX_PATH, clip};
use crate::path::{decode, split_query};
use crate::redaction::{MAX_DECODINGS, REDACTED};

/// The beginning of a template up to its first redacted parameter: a literal, or `None` for a parameter, for each segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RedactedPrefix(Vec<Option<String>>);

impl Policy {
    /// The path of a call as it is recorded: without redacted parameters, and without anything in the form of a key or token.
    /// `target` is the value of `:path`.
    ///
    /// A path without a route that begins like a template up to a redacted parameter ends there: it may contain the same
    /// value, for example before a trailing slash that no route has.
    pub fn recorded_path(&self, route: Option<Route<'_>>, target: &[u8]) -> String {
        let path = split_query(target).0;
        let redacted = match route {
            Some(route) => redact_segments(route.redacted, path),
            None => self.redact_unmatched(path),
        };
        clip(redacted.as_deref().map_or(path, str::as_bytes), MAX_PATH)
    }

    /// Like [`Self::recorded_path`], for a call that a gateway has recorded with this endpoint: perhaps by an earlier policy.
    /// `None` if the recorded path needs no change.
    pub fn redact_recorded_path(&self, endpoint: Option<&str>, path: &str) -> Option<String> {
        let known = self.endpoints.iter().find(|known| Some(known.template.as_str()) == endpoint);
        let redacted = match known {
            Some(known) => redact_segments(&known.redacted, path.as_bytes()),
            None => self.redact_unmatched(path.as_bytes()),
        };
        redacted.filter(|redacted| redacted != path)
    }

    /// Whether a path that was recorded with this endpoint determines its route, whatever its redacted segments were.
    pub fn determines_route(&self, endpoint: Option<&str>, path: &str) -> bool {
        let found = self.templates.at(path).ok().map(|matched| *matched.value);
        let segments: Vec<&str> = path.split('/').collect();
        // The last one stands for any number of segments.
        let is_open = endpoint.is_none_or(|endpoint| endpoint.contains("/{*")) && path.ends_with(REDACTED);
        let others = self.endpoints.iter().enumerate().filter(|(index, _)| Some(*index) != found);
        !others.into_iter().any(|(_, other)| may_have_matched(&other.template, &segments, is_open))
    }

    fn redact_unmatched(&self, path: &[u8]) -> Option<String> {
        if self.redacted_prefixes.is_empty() {
            return None;
        }
        let segments = lenient_segments(path);
        let matches = |prefix: &&RedactedPrefix| prefix.matches(&segments);
        // The shortest one redacts the most.
        let prefix = self.redacted_prefixes.iter().filter(matches).min_by_key(|prefix| prefix.0.len())?;
        let mut kept: Vec<&str> = segments.iter().take(prefix.0.len()).map(String::as_str).collect();
        kept.push(REDACTED);
        Some("/".to_owned() + &kept.join("/"))
    }
}

/// Replaces the segments with these indices. The last one stands for the rest of the path if the template ends in a parameter for
/// several segments.
fn redact_segments(redacted: &[RedactedSegment], path: &[u8]) -> Option<String> {
    if redacted.is_empty() {
        return None;
    }
    let path = String::from_utf8_lossy(path);
    let mut segments: Vec<&str> = path.split('/').collect();
    for RedactedSegment { index, is_rest } in redacted {
        if let Some(segment) = segments.get_mut(*index) {
            *segment = REDACTED;
        }
        if *is_rest {
            segments.truncate(*index + 1);
        }
    }
    Some(segments.join("/"))
}

/// Whether a template would have matched for some value of the redacted segments, but not for every value.
fn may_have_matched(template: &str, segments: &[&str], is_open: bool) -> bool {
    let mut depends = false;
    let mut segments = segments.iter();
    for part in template.split('/') {
        if part.starts_with("{*") {
            return depends && segments.next().is_some();
        }
        let Some(segment) = segments.next() else { return false };
        let is_redacted = *segment == REDACTED;
        if is_redacted && is_open && segments.len() == 0 {
            return true;
        }
        if part.starts_with('{') {
            continue;
        }
        if !is_redacted && *segment != part {
            return false;
        }
        depends |= is_redacted;
    }
    depends && segments.next().is_none()
}

/// A redacted parameter of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RedactedSegment {
    /// The index of its segment; that of the text before the first slash is 0.
    pub(super) index: usize,
    /// Whether it stands for the rest of the path.
    pub(super) is_rest: bool,
}

// === impl RedactedSegment ===

impl RedactedSegment {
    /// The parameter of a template with this name.
    pub(super) fn find(template: &str, name: &str) -> Option<Self> {
        template.split('/').enumerate().find_map(|(index, segment)| {
            let parameter = segment.strip_prefix('{')?.strip_suffix('}')?;
            let rest = parameter.strip_prefix('*');
            (rest.unwrap_or(parameter) == name).then_some(Self { index, is_rest: rest.is_some() })
        })
    }
}

// === impl RedactedPrefix ===

impl RedactedPrefix {
    /// The beginning of a template before a parameter.
    pub(super) fn new(template: &str, end: RedactedSegment) -> Self {
        let segment = |text: &str| (!text.starts_with('{')).then(|| text_of(&decode(text.as_bytes())));
        Self(template.split('/').take(end.index).skip(1).map(segment).collect())
    }

    /// Whether a path begins like the template and has at least one more segment.
    fn matches(&self, segments: &[String]) -> bool {
        segments.len() > self.0.len()
            && self.0.iter().zip(segments).all(|(literal, segment)| {
                literal.as_ref().is_none_or(|literal| literal.eq_ignore_ascii_case(segment))
            })
    }
}

/// The segments of a path that no route matches, as a lenient server reads them.
fn lenient_segments(path: &[u8]) -> Vec<String> {
    let mut decoded = path.to_vec();
    for _ in 0..MAX_DECODINGS {
        let next = decode(&decoded);
        if next.len() == decoded.len() {
            break;
        }
        decoded = next;
    }
    let mut segments = Vec::new();
    for segment in decoded.split(|byte| matches!(byte, b'/' | b'\\')) {
        let segment = segment.split(|byte| matches!(byte, b';' | b'#' | b'?')).next().unwrap_or_default();
        match segment.trim_ascii() {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            segment => segments.push(text_of(segment)),
        }
    }
    segments
}

fn text_of(segment: &[u8]) -> String {
    String::from_utf8_lossy(segment).into_owned()
}

#[cfg(test)]
mod tests {
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use proptest::prelude::*;

    use super::*;
    use crate::path::Target;
    use crate::policy::PolicyDocument;

    fn policy() -> Policy {
        let document = r#"{"scopes": [{"name": "a:read"}], "routes": [
            {"path": "/users/{email}", "methods": ["read"], "scope": "a:read", "redact": ["email"]},
            {"path": "/users/{email}", "methods": ["write"], "scope": "a:read"},
            {"path": "/users/{email}/orders/{id}", "methods": ["any"], "scope": "a:read", "redact": ["email"]},
            {"path": "/users/me", "methods": ["any"], "scope": "a:read"},
            {"path": "/reset/{account}/{*token}", "methods": ["any"], "scope": "a:read", "redact": ["token"]},
            {"path": "/plain/{id}", "methods": ["any"], "scope": "a:read"}]}"#;
        Policy::compile(PolicyDocument::from_json(document.as_bytes()).unwrap()).unwrap()
    }

    fn recorded(method: &str, target: &str) -> String {
        let policy = policy();
        let route = Target::parse(target.as_bytes())
            .ok()
            .and_then(|target| policy.route(method.as_bytes(), &target).ok().flatten());
        policy.recorded_path(route, target.as_bytes())
    }

    #[test]
    fn marked_parameters_are_redacted_in_every_call_of_the_path() {
        for (method, target, path) in [
            ("GET", "/users/a@example.com", "/users/***"),
            ("GET", "/users/a%40example.com?x=a@example.com", "/users/***"),
            ("DELETE", "/users/a@example.com", "/users/***"),
            ("GET", "/users/a@example.com/orders/7", "/users/***/orders/7"),
            ("GET", "/users/me", "/users/me"),
            ("POST", "/reset/7/a/b/c", "/reset/7/***"),
            ("GET", "/plain/a@example.com", "/plain/a@example.com"),
        ] {
            assert_eq!(recorded(method, target), path, "{method} {target}");
        }
    }

    #[test]
    fn paths_without_a_route_end_at_the_parameter() {
        for (target, path) in [
            ("/users/a@example.com/", "/users/***"),
            ("/users/a@example.com/invoices", "/users/***"),
            ("/Users/a@example.com", "/Users/***"),
            ("//users//a@example.com", "/users/***"),
            ("/x/../users/a@example.com", "/users/***"),
            ("/users%2fa@example.com", "/users/***"),
            ("/users;v=1/a@example.com", "/users/***"),
            ("/%75sers\\a@example.com", "/users/***"),
            ("/%2575sers/a@example.com", "/users/***"),
            ("/reset/7", "/reset/7"),
            ("/reset/7/a/b/", "/reset/7/***"),
            ("/reset/%37/a/../b", "/reset/7/***"),
            ("/users", "/users"),
            ("/plain/a@example.com/", "/plain/a@example.com/"),
            ("*", "*"),
        ] {
            assert_eq!(recorded("GET", target), path, "{target}");
        }
    }

    #[test]
    fn recorded_paths_are_redacted_by_a_later_policy() {
        let policy = policy();
        let redact = |endpoint, path| policy.redact_recorded_path(endpoint, path);
        assert_eq!(redact(Some("/users/{email}"), "/users/a@example.com").as_deref(), Some("/users/***"));
        assert_eq!(redact(Some("/users/{id}"), "/users/a@example.com").as_deref(), Some("/users/***"));
        assert_eq!(redact(None, "/users/a@example.com").as_deref(), Some("/users/***"));
        assert_eq!(redact(Some("/users/{email}"), "/users/***"), None);
        assert_eq!(redact(Some("/users/me"), "/users/me"), None);
        assert_eq!(redact(None, "/elsewhere"), None);
    }

    #[test]
    fn a_redacted_path_determines_its_route_unless_a_literal_could_have_matched() {
        let policy = policy();
        for (endpoint, path, expected) in [
            (Some("/users/{email}"), "/users/***", false),
            (Some("/users/{email}/orders/{id}"), "/users/***/orders/7", true),
            (Some("/plain/{id}"), "/plain/***", true),
            (Some("/reset/{account}/{*token}"), "/reset/7/***", true),
            (Some("/elsewhere/{id}"), "/elsewhere/***", true),
            (Some("/users/{*rest}"), "/users/***", false),
            (None, "/users/***", false),
        ] {
            assert_eq!(policy.determines_route(endpoint, path), expected, "{endpoint:?} {path}");
        }
    }

    proptest! {
        #[test]
        fn no_recorded_path_contains_a_redacted_value(
            before in prop::sample::select(vec!["/users/", "//Users/", "/a/../users/./", "/users%2f", "/%75sers//", "/users\\"]),
            after in "[ -~]{0,12}",
            method in "GET|PUT|x",
        ) {
            let target = format!("{before}zq7zq8@example.com{after}");
            prop_assume!(!after.contains(".."));
            let path = recorded(&method, &target);
            prop_assert!(!path.contains("zq7zq8"), "{} of {}", path, target);
        }
    }
}
