//! The state of keys, tokens and policies before and after a change, as recorded in the admin log.

use omniflow_policy::address::Allowlist;
use omniflow_policy::key::Environment;
use omniflow_policy::limit::RateLimit;
use omniflow_policy::scope::ScopeSet;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::key::Key;
use crate::time::format_time;
use crate::token::Token;

/// The settings of a key that admins control. It contains neither a secret nor a digest.
#[derive(Serialize)]
struct KeyState<'a> {
    environment: Environment,
    scopes: &'a ScopeSet,
    rate_limit: RateLimit,
    ip_allowlist: &'a Allowlist,
    description: Option<&'a str>,
    expires_at: Option<String>,
    versions: Vec<VersionState<'a>>,
}

#[derive(Serialize)]
struct VersionState<'a> {
    id: u16,
    hint: &'a str,
    expires_at: Option<String>,
    revoked_at: Option<String>,
}

/// A key, as recorded in the admin log.
pub fn key_state(key: &Key) -> Value {
    let versions = key.versions.iter().map(|version| VersionState {
        id: version.version,
        hint: &version.hint,
        expires_at: version.expires_at.map(format_time),
        revoked_at: version.revoked_at.map(format_time),
    });
    let state = KeyState {
        environment: key.environment,
        scopes: &key.scopes,
        rate_limit: key.rate_limit,
        ip_allowlist: &key.ip_allowlist,
        description: key.description.as_deref(),
        expires_at: key.expires_at.map(format_time),
        versions: versions.collect(),
    };
    // Serializing texts and numbers in memory cannot fail.
    serde_json::to_value(state).unwrap_or_default()
}

/// A token, as recorded in the admin log.
pub fn token_state(token: &Token) -> Value {
    json!({
        "role": token.role,
        "expires_at": token.expires_at.map(format_time),
        "gateways": token.gateways,
    })
}

/// A policy, as recorded in the admin log: its version number, by which the document remains available.
pub fn policy_state(version: u64) -> Value {
    json!({"version": version})
}

/// The fields in which two states differ, with the values of each. Of a key's versions, only those that differ are
/// included.
pub fn difference(before: Value, after: Value) -> (Value, Value) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let old = differing(&before, &after);
            let new = differing(&after, &before);
            (Value::Object(old), Value::Object(new))
        }
        other => other,
    }
}

fn differing(these: &Map<String, Value>, others: &Map<String, Value>) -> Map<String, Value> {
    let differs = these.iter().filter(|(name, value)| others.get(*name) != Some(*value));
    differs
        .map(|(name, value)| {
            let value = match (name.as_str(), value, others.get(name)) {
                ("versions", Value::Array(items), Some(Value::Array(others))) => {
                    items.iter().filter(|item| !others.contains(item)).cloned().collect()
                }
                _ => value.clone(),
            };
            (name.clone(), value)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_differing_fields_are_included() {
        let before = json!({"scopes": ["a:b"], "description": null, "versions": [{"id": 1, "revoked_at": null}, {"id": 2}]});
        let after = json!({"scopes": ["a:b"], "description": "x", "versions": [{"id": 1, "revoked_at": "t"}, {"id": 2}]});
        assert_eq!(
            difference(before.clone(), after),
            (
                json!({"description": null, "versions": [{"id": 1, "revoked_at": null}]}),
                json!({"description": "x", "versions": [{"id": 1, "revoked_at": "t"}]}),
            )
        );
        assert_eq!(difference(before.clone(), before), (json!({}), json!({})));
    }
}
