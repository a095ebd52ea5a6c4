//! Routes, and the scope that each requires.
//!
//! A [`PolicyDocument`] is what an admin writes and a gateway receives; a [`Policy`] is its validated and
//! compiled form. Of several templates that match a path, the one with more literal segments wins, as in
//! `matchit`. A request that no route matches is denied.

mod check;
mod document;
mod method;
mod recorded_path;

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

pub use self::check::{MAX_SCOPE_DESCRIPTION, MAX_SCOPES, MAX_TEMPLATE_LENGTH};
use self::check::{check_payloads, check_scopes, check_template};
pub use self::document::{PolicyDocument, PolicyError, RouteDefinition, ScopeDefinition};
pub(crate) use self::document::{default_true, is_true};
pub use self::method::{InvalidMethodSelector, MethodSelector};
use self::recorded_path::{RedactedPrefix, RedactedSegment};
use crate::key::KeyPrefix;
use crate::path::{AmbiguousPath, Target, decode};
use crate::scope::Scope;

/// Maximum number of routes in one policy.
pub const MAX_ROUTES: usize = 2_000;
/// Maximum length of an imported key in bytes. Keys of other systems are far shorter; longer credentials,
/// such as most OAuth tokens, cost neither a digest nor a lookup.
pub const MAX_IMPORTED_KEY_LENGTH: usize = 512;

/// A compiled policy.
#[derive(Clone)]
pub struct Policy {
    document: PolicyDocument,
    templates: matchit::Router<usize>,
    /// The templates with percent-decoded literals. `None` if no literal is encoded.
    decoded: Option<matchit::Router<usize>>,
    endpoints: Vec<Endpoint>,
    /// The beginnings of templates before their first redacted parameter, without duplicates.
    redacted_prefixes: Vec<RedactedPrefix>,
}

#[derive(Clone)]
struct Endpoint {
    template: String,
    methods: Vec<Mapping>,
    /// The redacted parameters, sorted. The routes of one template redact the same parameters together.
    redacted: Vec<RedactedSegment>,
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
    /// The template that matched: the `endpoint` in the audit log.
    pub template: &'p str,
    /// The scope that a key requires; `None` if the path has a route, but not for this method.
    pub scope: Option<&'p Scope>,
    /// Whether the arguments of the call are recorded.
    pub payload: bool,
    /// The parameters that are redacted in the recorded path.
    pub(crate) redacted: &'p [RedactedSegment],
}

// === impl Policy ===

impl Policy {
    /// Validates and compiles a document.
    pub fn compile(document: PolicyDocument) -> Result<Self, PolicyError> {
        check_payloads(&document.payloads)?;
        check_scopes(&document.scopes)?;
        if document.routes.len() > MAX_ROUTES {
            return Err(PolicyError::new(
                "/routes".to_owned(),
                format!("a policy can have at most {MAX_ROUTES} routes"),
            ));
        }
        let mut templates = matchit::Router::new();
        let mut decoded = matchit::Router::new();
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for (index, route) in document.routes.iter().enumerate() {
            let at = |field: &str| format!("/routes/{index}/{field}");
            check_template(&route.path).map_err(|message| PolicyError::new(at("path"), message))?;
            if !document.scopes.iter().any(|scope| scope.name == route.scope) {
                return Err(PolicyError::new(
                    at("scope"),
                    format!("{} is not a scope of this policy", route.scope),
                ));
            }
            if route.methods.is_empty() {
                return Err(PolicyError::new(
                    at("methods"),
                    "set at least one method, or read, write or any".to_owned(),
                ));
            }
            let endpoint = match endpoints.iter().position(|endpoint| endpoint.template == route.path) {
                Some(known) => known,
                None => {
                    let known =
                        |conflict: matchit::InsertError| PolicyError::new(at("path"), conflict.to_string());
                    templates.insert(route.path.clone(), endpoints.len()).map_err(known)?;
                    decoded.insert(decoded_template(&route.path), endpoints.len()).map_err(known)?;
                    endpoints.push(Endpoint::new(&route.path));
                    endpoints.len() - 1
                }
            };
            let Some(endpoint) = endpoints.get_mut(endpoint) else {
                continue;
            };
            endpoint.redact(&route.redact).map_err(|message| PolicyError::new(at("redact"), message))?;
            for selector in &route.methods {
                if endpoint.methods.iter().any(|known| known.selector == *selector) {
                    let message =
                        format!("{} {} is mapped twice", String::from(selector.clone()), route.path);
                    return Err(PolicyError::new(at("methods"), message));
                }
                endpoint.methods.push(Mapping {
                    selector: selector.clone(),
                    scope: route.scope.clone(),
                    payload: route.payload,
                });
            }
        }
        let is_encoded = endpoints.iter().any(|endpoint| endpoint.template.contains('%'));
        let mut redacted_prefixes: Vec<RedactedPrefix> =
            endpoints.iter().filter_map(Endpoint::redacted_prefix).collect();
        redacted_prefixes.sort_unstable();
        redacted_prefixes.dedup();
        let decoded = is_encoded.then_some(decoded);
        Ok(Self { document, templates, decoded, endpoints, redacted_prefixes })
    }

    /// The document that the policy was compiled from.
    pub fn document(&self) -> &PolicyDocument {
        &self.document
    }

    /// The prefix of all keys.
    pub fn key_prefix(&self) -> &KeyPrefix {
        &self.document.key_prefix
    }

    /// Maximum number of bytes of a call's arguments to record: 0 if its route records none.
    pub fn payload_bytes(&self, route: Option<Route<'_>>) -> usize {
        match route {
            Some(Route { payload: true, .. }) => {
                usize::try_from(self.document.payloads.max_bytes).unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// Like [`Self::payload_bytes`], for a call that was recorded with this endpoint and method.
    pub fn recorded_payload_bytes(&self, endpoint: Option<&str>, method: &str) -> usize {
        let endpoint = self.endpoints.iter().find(|known| Some(known.template.as_str()) == endpoint);
        let route = endpoint.map(|endpoint| endpoint.route(method.as_bytes()));
        self.payload_bytes(route)
    }

    /// Whether a credential may be an imported key. A credential that starts with the installation's own
    /// prefix is not: it is a mistyped key. Neither is an empty one, whose digest is public.
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
    /// Some servers match the path as sent, others after percent-decoding: `/contacts%3Amerge` is `/{name}`
    /// for the former and `/contacts:merge` for the latter. A path for which the two differ is ambiguous.
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
    fn new(template: &str) -> Self {
        Self { template: template.to_owned(), methods: Vec::new(), redacted: Vec::new() }
    }

    /// Adds parameters to redact.
    fn redact(&mut self, names: &[String]) -> Result<(), String> {
        for name in names {
            let parameter = RedactedSegment::find(&self.template, name)
                .ok_or_else(|| format!("{name:?} is not a parameter of {}", self.template))?;
            if !self.redacted.contains(&parameter) {
                self.redacted.push(parameter);
            }
        }
        self.redacted.sort_unstable();
        Ok(())
    }

    fn redacted_prefix(&self) -> Option<RedactedPrefix> {
        self.redacted.first().map(|first| RedactedPrefix::new(&self.template, *first))
    }

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
            redacted: &self.redacted,
        }
    }
}

/// Percent-decodes the literals of a template. A decoded brace is escaped, so that it does not start a
/// parameter.
fn decoded_template(template: &str) -> String {
    let segments = template.split('/').map(|segment| {
        if segment.starts_with('{') {
            return segment.to_owned();
        }
        String::from_utf8_lossy(&decode(segment.as_bytes())).replace('{', "{{").replace('}', "}}")
    });
    segments.collect::<Vec<String>>().join("/")
}

#[cfg(test)]
mod tests;
