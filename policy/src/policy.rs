//! Routes, and the scope that each needs.
//!
//! A [`PolicyDocument`] is what an admin writes and a gateway receives; a [`Policy`] is the same, checked and
//! ready to match. Of several templates that match a path the one with more literal segments wins, as in
//! `matchit`. What no route matches is refused.

mod method;

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

pub use self::method::{InvalidMethodSelector, MethodSelector};
use crate::key::KeyPrefix;
use crate::path::{AmbiguousPath, Target, decode};
use crate::payload::{MAX_PAYLOAD_BYTES, MAX_REDACTED_FIELDS, PayloadPolicy};
use crate::scope::Scope;

/// The most routes in one policy.
pub const MAX_ROUTES: usize = 2_000;
/// The most scopes in one policy.
pub const MAX_SCOPES: usize = 500;
/// The most bytes of an imported key. Keys of other systems are far shorter; what is longer, such as most OAuth
/// tokens, costs neither a digest nor a look-up.
pub const MAX_IMPORTED_KEY_LENGTH: usize = 512;
/// The most bytes of the description of a scope.
pub const MAX_SCOPE_DESCRIPTION: usize = 1_024;
/// The most bytes of one route template.
pub const MAX_TEMPLATE_LENGTH: usize = 512;

/// Routes and scopes as an admin writes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyDocument {
    /// How all keys of this installation begin.
    #[serde(default)]
    pub key_prefix: KeyPrefix,
    /// Whether credentials of another form may be keys, imported from another system by their digests. Not written
    /// where it is false: a filter that does not know it reads all other policies as before.
    #[serde(default, skip_serializing_if = "is_false")]
    pub imported_keys: bool,
    /// What is kept of the arguments of calls. Not written where it is as it is by itself, for the same reason.
    #[serde(default, skip_serializing_if = "PayloadPolicy::is_default")]
    pub payloads: PayloadPolicy,
    /// The scopes that a key may be given.
    pub scopes: Vec<ScopeDefinition>,
    /// The routes that keys may call.
    pub routes: Vec<RouteDefinition>,
}

/// A scope and what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopeDefinition {
    /// `resource:action`.
    pub name: Scope,
    /// What it allows, for the person who gives it.
    #[serde(default)]
    pub description: String,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteDefinition {
    /// A path template: literal segments, `{name}` for one segment, `{*name}` at the end for one or more.
    pub path: String,
    /// Methods by name, `read` (GET and HEAD), `write` (all others) or `any`. A name beats `read` and `write`,
    /// which beat `any`.
    pub methods: Vec<MethodSelector>,
    /// The scope that a key needs.
    pub scope: Scope,
    /// Whether the arguments of calls are kept, as [`PolicyDocument::payloads`] says. Not written where true.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub payload: bool,
}

/// What is wrong with a policy, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {message}")]
pub struct PolicyError {
    /// The place in the document, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// A policy ready to match.
#[derive(Clone)]
pub struct Policy {
    document: PolicyDocument,
    templates: matchit::Router<usize>,
    /// The same with the literals' percent-encoding undone. Only there if one is encoded.
    decoded: Option<matchit::Router<usize>>,
    endpoints: Vec<Endpoint>,
}

#[derive(Clone)]
struct Endpoint {
    template: String,
    methods: Vec<Mapping>,
}

#[derive(Clone)]
struct Mapping {
    selector: MethodSelector,
    scope: Scope,
    payload: bool,
}

/// The route of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<'p> {
    /// The template that matched, the `endpoint` of the audit log.
    pub template: &'p str,
    /// The scope that a key needs, or `None` where the path is known but not with this method.
    pub scope: Option<&'p Scope>,
    /// Whether the arguments of the call are kept.
    pub payload: bool,
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

pub(crate) fn yes() -> bool {
    true
}

/// The collection, one item of it, and what lies below an item.
fn resource(name: &str, methods: &MethodSelector, scope: &str) -> Option<[RouteDefinition; 3]> {
    let scope: Scope = scope.parse().ok()?;
    Some(["", "/{id}", "/{id}/{*rest}"].map(|below| RouteDefinition {
        path: format!("/api/v1/{name}{below}"),
        methods: vec![methods.clone()],
        scope: scope.clone(),
        payload: true,
    }))
}

impl PolicyDocument {
    /// Reads a document in JSON, whose routes [`Policy::compile`] checks. Errors name the line and column.
    pub fn from_json(bytes: &[u8]) -> Result<Self, PolicyError> {
        serde_json::from_slice(bytes)
            .map_err(|error| PolicyError { pointer: String::new(), message: error.to_string() })
    }

    /// The document in JSON, always the same text for the same document.
    pub fn to_json(&self) -> String {
        // Serialising strings into memory has no way to fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

// === impl Policy ===

impl Policy {
    /// Checks a document and makes it ready to match.
    pub fn compile(document: PolicyDocument) -> Result<Self, PolicyError> {
        check_payloads(&document.payloads)?;
        check_scopes(&document.scopes)?;
        if document.routes.len() > MAX_ROUTES {
            return Err(error("/routes".to_owned(), format!("a policy has at most {MAX_ROUTES} routes")));
        }
        let mut templates = matchit::Router::new();
        let mut decoded = matchit::Router::new();
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for (index, route) in document.routes.iter().enumerate() {
            let at = |field: &str| format!("/routes/{index}/{field}");
            check_template(&route.path).map_err(|message| error(at("path"), message))?;
            if !document.scopes.iter().any(|scope| scope.name == route.scope) {
                return Err(error(
                    at("scope"),
                    format!("{} is not among the scopes of this policy", route.scope),
                ));
            }
            if route.methods.is_empty() {
                return Err(error(
                    at("methods"),
                    "name at least one method, or read, write or any".to_owned(),
                ));
            }
            let endpoint = match endpoints.iter().position(|endpoint| endpoint.template == route.path) {
                Some(known) => known,
                None => {
                    let known = |conflict: matchit::InsertError| error(at("path"), conflict.to_string());
                    templates.insert(route.path.clone(), endpoints.len()).map_err(known)?;
                    decoded.insert(decoded_template(&route.path), endpoints.len()).map_err(known)?;
                    endpoints.push(Endpoint { template: route.path.clone(), methods: Vec::new() });
                    endpoints.len() - 1
                }
            };
            let Some(endpoint) = endpoints.get_mut(endpoint) else {
                continue;
            };
            for selector in &route.methods {
                if endpoint.methods.iter().any(|known| known.selector == *selector) {
                    let message =
                        format!("{} {} is mapped twice", String::from(selector.clone()), route.path);
                    return Err(error(at("methods"), message));
                }
                endpoint.methods.push(Mapping {
                    selector: selector.clone(),
                    scope: route.scope.clone(),
                    payload: route.payload,
                });
            }
        }
        let is_encoded = endpoints.iter().any(|endpoint| endpoint.template.contains('%'));
        Ok(Self { document, templates, decoded: is_encoded.then_some(decoded), endpoints })
    }

    /// What this was compiled from.
    pub fn document(&self) -> &PolicyDocument {
        &self.document
    }

    /// How keys begin.
    pub fn key_prefix(&self) -> &KeyPrefix {
        &self.document.key_prefix
    }

    /// How many bytes of a call's arguments are kept: 0 where its route keeps none.
    pub fn payload_bytes(&self, route: Option<Route<'_>>) -> usize {
        match route {
            Some(Route { payload: true, .. }) => {
                usize::try_from(self.document.payloads.max_bytes).unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// The same of a call that was recorded with this endpoint and method.
    pub fn recorded_payload_bytes(&self, endpoint: Option<&str>, method: &str) -> usize {
        let endpoint = self.endpoints.iter().find(|known| Some(known.template.as_str()) == endpoint);
        let route = endpoint.map(|endpoint| endpoint.route(method.as_bytes()));
        self.payload_bytes(route)
    }

    /// Whether a credential may be an imported key. What begins as the installation's own keys do is none: a mistyped
    /// key stays one. Nor is what is empty, of which everybody knows the digest.
    pub fn may_be_imported(&self, credential: &[u8]) -> bool {
        self.document.imported_keys
            && (1..=MAX_IMPORTED_KEY_LENGTH).contains(&credential.len())
            && !self.key_prefix().claims(credential)
    }

    /// Whether a key may be given this scope.
    pub fn defines(&self, scope: &Scope) -> bool {
        self.document.scopes.iter().any(|definition| definition.name == *scope)
    }

    /// The route of a request; `None` where no template matches the path.
    ///
    /// Some servers match a path as it came, others with its percent-encoding undone: `/contacts%3Amerge` is `/{name}`
    /// to the ones and `/contacts:merge` to the others. A path that the two take to different routes is ambiguous.
    pub fn route(&self, method: &[u8], target: &Target<'_>) -> Result<Option<Route<'_>>, AmbiguousPath> {
        let found = self.templates.at(target.path).ok().map(|matched| *matched.value);
        let is_encoded = self.decoded.is_some() || target.path.contains('%');
        if is_encoded && self.decoded_endpoint(target.path) != found {
            return Err(AmbiguousPath);
        }
        Ok(found.and_then(|found| self.endpoints.get(found)).map(|endpoint| endpoint.route(method)))
    }

    fn decoded_endpoint(&self, path: &str) -> Option<usize> {
        let decoded = decode(path.as_bytes());
        let templates = self.decoded.as_ref().unwrap_or(&self.templates);
        templates.at(core::str::from_utf8(&decoded).ok()?).ok().map(|matched| *matched.value)
    }
}

// === impl Endpoint ===

impl Endpoint {
    fn route(&self, method: &[u8]) -> Route<'_> {
        let mapping = self
            .methods
            .iter()
            .filter_map(|mapping| Some((mapping.selector.specificity(method)?, mapping)))
            .max_by_key(|(specificity, _)| *specificity)
            .map(|(_, mapping)| mapping);
        Route {
            template: &self.template,
            scope: mapping.map(|mapping| &mapping.scope),
            payload: mapping.is_some_and(|mapping| mapping.payload),
        }
    }
}

/// A template with the percent-encoding of its literals undone. A brace that comes of it is no parameter's.
fn decoded_template(template: &str) -> String {
    let segments = template.split('/').map(|segment| {
        if segment.starts_with('{') {
            return segment.to_owned();
        }
        String::from_utf8_lossy(&decode(segment.as_bytes())).replace('{', "{{").replace('}', "}}")
    });
    segments.collect::<Vec<String>>().join("/")
}

fn check_scopes(scopes: &[ScopeDefinition]) -> Result<(), PolicyError> {
    if scopes.len() > MAX_SCOPES {
        return Err(error("/scopes".to_owned(), format!("a policy has at most {MAX_SCOPES} scopes")));
    }
    for (index, scope) in scopes.iter().enumerate() {
        if scope.description.len() > MAX_SCOPE_DESCRIPTION {
            return Err(error(
                format!("/scopes/{index}/description"),
                format!("a description has at most {MAX_SCOPE_DESCRIPTION} bytes"),
            ));
        }
        if scopes.iter().take(index).any(|earlier| earlier.name == scope.name) {
            return Err(error(format!("/scopes/{index}/name"), format!("{} stands here twice", scope.name)));
        }
    }
    Ok(())
}

fn check_payloads(payloads: &PayloadPolicy) -> Result<(), PolicyError> {
    if payloads.max_bytes > MAX_PAYLOAD_BYTES {
        let message = format!("at most {MAX_PAYLOAD_BYTES} bytes of a call are kept; 0 keeps none");
        return Err(error("/payloads/max_bytes".to_owned(), message));
    }
    if payloads.redact.len() > MAX_REDACTED_FIELDS {
        let message = format!("a policy redacts at most {MAX_REDACTED_FIELDS} fields");
        return Err(error("/payloads/redact".to_owned(), message));
    }
    Ok(())
}

fn error(pointer: String, message: String) -> PolicyError {
    PolicyError { pointer, message }
}

fn check_template(template: &str) -> Result<(), String> {
    let Some(segments) = template.strip_prefix('/') else {
        return Err(format!("{template:?} must begin with a slash"));
    };
    if template.len() > MAX_TEMPLATE_LENGTH {
        return Err(format!("a path template has at most {MAX_TEMPLATE_LENGTH} bytes"));
    }
    let last = segments.split('/').count() - 1;
    let mut literal_path = String::new();
    for (index, segment) in segments.split('/').enumerate() {
        literal_path.push('/');
        let Some(parameter) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            literal_path.push_str(segment);
            continue;
        };
        literal_path.push('x');
        let name = match parameter.strip_prefix('*') {
            Some(name) if index == last => name,
            Some(_) => return Err(format!("{segment} may stand at the end only")),
            None => parameter,
        };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(format!("{segment}: a parameter's name is letters, digits and '_'"));
        }
    }
    // A literal that no request can carry would never match, and whoever wrote it would not know.
    Target::parse(literal_path.as_bytes())
        .map_err(|_| format!("{template:?} has a literal segment that the filter refuses as ambiguous"))?;
    if literal_path.contains('?') {
        return Err(format!("{template:?}: the query string takes no part in matching"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
