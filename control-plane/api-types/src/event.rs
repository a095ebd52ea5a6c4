//! The admins' trail in JSON: what was otherwise before a change, and what is otherwise since.

use std::borrow::Cow;

use omniflow_policy::address::Allowlist;
use omniflow_policy::key::Environment;
use omniflow_policy::limit::RateLimit;
use omniflow_policy::scope::ScopeSet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::schema;
use super::time::Time;
use omniflow_domain::event::Event;
use omniflow_domain::key::Key;
use omniflow_domain::token::Token;

/// One change.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Event)]
pub struct EventJson {
    /// Number of the entry.
    #[schema(value_type = schema::Number)]
    pub id: String,
    /// When the change was made.
    #[schema(value_type = schema::Instant)]
    pub time: Time,
    /// Who made the change.
    pub actor: ActorJson,
    /// What was done.
    #[schema(value_type = schema::Action)]
    pub action: Cow<'static, str>,
    /// What was changed.
    pub subject: SubjectJson,
    /// Fields that differ, as they were before the change; null if there was nothing before.
    #[schema(value_type = Option<Object>, required = true)]
    pub before: Option<Value>,
    /// Fields that differ, as they are after the change; null if there is nothing after.
    #[schema(value_type = Option<Object>, required = true)]
    pub after: Option<Value>,
}

/// Who made it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Actor)]
pub struct ActorJson {
    /// Identifier of the token; null for the first start and for a restore.
    #[schema(value_type = Option<schema::Identifier>, required = true)]
    pub token_id: Option<Uuid>,
    /// Name that the token had at the time.
    pub name: String,
}

/// What it was made to.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Subject)]
pub struct SubjectJson {
    /// Identifier of the key or token, or number of the policy version or record.
    pub id: String,
    /// Name that the subject had at the time; empty if it has none.
    pub name: String,
}

/// All of a key that an admin decides on, and nothing that could be tried as a secret.
#[derive(Serialize)]
struct KeyState<'a> {
    environment: Environment,
    scopes: &'a ScopeSet,
    rate_limit: RateLimit,
    ip_allowlist: &'a Allowlist,
    description: Option<&'a str>,
    expires_at: Option<Time>,
    versions: Vec<VersionState<'a>>,
}

#[derive(Serialize)]
struct VersionState<'a> {
    id: u16,
    hint: &'a str,
    expires_at: Option<Time>,
    revoked_at: Option<Time>,
}

/// A key as the trail keeps it.
pub fn key_state(key: &Key) -> Value {
    let versions = key.versions.iter().map(|version| VersionState {
        id: version.version,
        hint: &version.hint,
        expires_at: version.expires_at.map(Time),
        revoked_at: version.revoked_at.map(Time),
    });
    let state = KeyState {
        environment: key.environment,
        scopes: &key.scopes,
        rate_limit: key.rate_limit,
        ip_allowlist: &key.ip_allowlist,
        description: key.description.as_deref(),
        expires_at: key.expires_at.map(Time),
        versions: versions.collect(),
    };
    // Texts and numbers in memory: there is nothing that could fail.
    serde_json::to_value(state).unwrap_or_default()
}

/// A token as the trail keeps it.
pub fn token_state(token: &Token) -> Value {
    json!({"role": token.role, "expires_at": token.expires_at.map(Time)})
}

/// A policy as the trail keeps it: its number, under which the document can be read as long as the installation lives.
pub fn policy_state(version: u64) -> Value {
    json!({"version": version})
}

/// What of two states is not the same: the fields of each that the other has not, or otherwise. Of the versions of a
/// key those are told that differ.
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

impl From<Event> for EventJson {
    fn from(Event { id, noted }: Event) -> Self {
        Self {
            id: id.to_string(),
            time: Time(noted.time),
            actor: ActorJson { token_id: noted.actor.id, name: noted.actor.name },
            action: noted.action.as_str().into(),
            subject: SubjectJson { id: noted.subject.id, name: noted.subject.name },
            before: noted.before,
            after: noted.after,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_told() {
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
