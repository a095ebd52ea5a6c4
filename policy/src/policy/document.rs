//! The policy document.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::method::MethodSelector;
use crate::key::KeyPrefix;
use crate::payload::PayloadPolicy;
use crate::scope::Scope;

/// A policy in the form in which an admin writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyDocument {
    /// The prefix of all keys of this installation.
    #[serde(default)]
    pub key_prefix: KeyPrefix,
    /// Whether credentials in another format may be keys, imported from another system by their digests.
    /// Omitted if false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub imported_keys: bool,
    /// How the arguments of calls are recorded. Omitted if default.
    #[serde(default, skip_serializing_if = "PayloadPolicy::is_default")]
    pub payloads: PayloadPolicy,
    /// The scopes that keys can have.
    pub scopes: Vec<ScopeDefinition>,
    /// Routes that keys can call.
    pub routes: Vec<RouteDefinition>,
}

/// A scope and its description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopeDefinition {
    /// `resource:action`.
    pub name: Scope,
    /// What the scope allows, for the admin who grants it.
    #[serde(default)]
    pub description: String,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteDefinition {
    /// A path template: literal segments, `{name}` for one segment, `{*name}` at the end for one or more.
    pub path: String,
    /// Methods: by name, `read` (GET and HEAD), `write` (all others) or `any`. A name takes precedence over
    /// `read` and `write`, which take precedence over `any`.
    pub methods: Vec<MethodSelector>,
    /// The scope that a key requires.
    pub scope: Scope,
    /// Whether the arguments of calls are recorded, as configured in [`PolicyDocument::payloads`]. Omitted if
    /// true.
    #[serde(default = "default_true", skip_serializing_if = "is_true")]
    pub payload: bool,
    /// Parameters of the path whose values are redacted before a call to the path is recorded, whatever its
    /// method. Omitted if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redact: Vec<String>,
}

/// An error in a policy document, with its location.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {message}")]
pub struct PolicyError {
    /// The location in the document, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What is wrong and how to correct it.
    pub message: String,
}

// === impl PolicyError ===

impl PolicyError {
    pub(super) fn new(pointer: String, message: String) -> Self {
        Self { pointer, message }
    }
}

// === impl PolicyDocument ===

impl Default for PolicyDocument {
    /// The Omniflow API under `/api/v1`.
    fn default() -> Self {
        let scopes = [
            ("conversations:read", "Read conversations and their traces"),
            ("conversations:write", "Create, change and delete conversations"),
            ("contacts:read", "Read contacts"),
            ("contacts:write", "Create, change and delete contacts"),
            ("tickets:read", "Read tickets"),
            ("tickets:write", "Create, change and delete tickets"),
            ("scorecards:read", "Read scorecards"),
            ("agents:read", "Read agents"),
            ("webhooks:manage", "Read, create, change and delete webhooks"),
        ];
        let routes = [
            ("conversations", MethodSelector::Read, "conversations:read"),
            ("conversations", MethodSelector::Write, "conversations:write"),
            ("traces", MethodSelector::Read, "conversations:read"),
            ("contacts", MethodSelector::Read, "contacts:read"),
            ("contacts", MethodSelector::Write, "contacts:write"),
            ("tickets", MethodSelector::Read, "tickets:read"),
            ("tickets", MethodSelector::Write, "tickets:write"),
            ("scorecards", MethodSelector::Read, "scorecards:read"),
            ("agents", MethodSelector::Read, "agents:read"),
            ("webhooks", MethodSelector::Any, "webhooks:manage"),
        ];
        Self {
            key_prefix: KeyPrefix::default(),
            imported_keys: false,
            payloads: PayloadPolicy::default(),
            scopes: scopes
                .into_iter()
                .filter_map(|(name, description)| {
                    Some(ScopeDefinition { name: name.parse().ok()?, description: description.to_owned() })
                })
                .collect(),
            routes: routes
                .into_iter()
                .filter_map(|(name, methods, scope)| resource(name, &methods, scope))
                .flatten()
                .collect(),
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(crate) fn is_true(value: &bool) -> bool {
    *value
}

pub(crate) fn default_true() -> bool {
    true
}

/// The routes of a collection, of one item, and of the paths below an item.
fn resource(name: &str, methods: &MethodSelector, scope: &str) -> Option<[RouteDefinition; 3]> {
    let scope: Scope = scope.parse().ok()?;
    Some(["", "/{id}", "/{id}/{*rest}"].map(|below| RouteDefinition {
        path: format!("/api/v1/{name}{below}"),
        methods: vec![methods.clone()],
        scope: scope.clone(),
        payload: true,
        redact: Vec::new(),
    }))
}

impl PolicyDocument {
    /// Parses a JSON document, without the checks of [`super::Policy::compile`]. Errors contain line and
    /// column.
    pub fn from_json(bytes: &[u8]) -> Result<Self, PolicyError> {
        serde_json::from_slice(bytes)
            .map_err(|error| PolicyError { pointer: String::new(), message: error.to_string() })
    }

    /// Serializes the document to JSON, always to the same text for the same document.
    pub fn to_json(&self) -> String {
        // Serializing strings into memory cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}
