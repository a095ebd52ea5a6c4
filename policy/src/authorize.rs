//! The decision on a request, rate limits aside.
//!
//! 1. The request has one well-formed credential.
//! 2. The credential belongs to a key.
//! 3. The key is neither revoked nor expired.
//! 4. The key may be used from the client's address.
//! 5. No header overrides the method, the policy has a route for path and method, and the key has the scope that the route requires.

use alloc::string::String;
use core::net::IpAddr;

use uuid::Uuid;

use crate::address::AllowlistView;
use crate::credential::{CredentialHeader, MethodOverride, SentCredential};
use crate::denial::{Denial, Outcome};
use crate::digest::Digest;
use crate::key::Environment;
use crate::limit::RateLimit;
use crate::path::Target;
use crate::policy::{Policy, Route};
use crate::scope;
use crate::time::UnixMillis;

/// A request with its credential.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The credential, as returned by [`crate::credential::find_credential`].
    pub credential: Result<SentCredential<'a>, Denial>,
    /// The rest of the request.
    pub request: Request<'a>,
}

/// The parts of a request that a decision depends on, its credential aside.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, in its original case.
    pub method: &'a [u8],
    /// Whether a header overrides the method, see [`crate::credential::find_method`].
    pub is_method_overridden: bool,
    /// The value of `:path`; empty if the request has none.
    pub target: &'a [u8],
    /// The client's address, if known.
    pub source: Option<IpAddr>,
    /// The current time.
    pub now: UnixMillis,
}

/// Default path of introspection, where clients query their own key.
pub const INTROSPECTION_PATH: &str = "/.well-known/omniflow/key";

/// The settings of one gateway, as opposed to the policy that all gateways share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewaySettings {
    /// What happens to requests whose credential is not a key.
    pub non_key_credentials: NonKeyCredentials,
    /// Path where clients query their own key; the gateway itself answers. `None` disables introspection.
    pub introspection_path: Option<String>,
    /// Which header carries keys.
    pub credential_header: CredentialHeader,
    /// What happens to requests with a header that overrides the method.
    pub method_override: MethodOverride,
}

/// What happens to requests whose credential is not a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NonKeyCredentials {
    /// They are denied.
    #[default]
    Refuse,
    /// They pass without a change and without identity headers, for another filter to check.
    Passthrough,
}

/// One version of a key, read in place from a snapshot.
#[derive(Clone, Copy, Debug)]
pub struct CredentialView<'s> {
    /// The key.
    pub key_id: Uuid,
    /// Its version, from 1.
    pub version: u16,
    /// Its name.
    pub name: &'s str,
    /// Its environment.
    pub environment: Environment,
    /// Whether the key or this version was revoked.
    pub revoked: bool,
    /// End of validity: the key's expiry or the end of the overlap, whichever is earlier.
    pub not_after: Option<UnixMillis>,
    /// Its scopes, joined by spaces.
    pub scopes: &'s str,
    /// Its limits.
    pub rate_limit: RateLimit,
    /// The networks it may be used from.
    pub allowlist: AllowlistView<'s>,
}

/// A decision, and the facts that it is based on.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'s, 'p> {
    /// The key, if the client used one that exists, valid or not.
    pub credential: Option<CredentialView<'s>>,
    /// The route, if the policy has one for the path, also of a denied request.
    pub route: Option<Route<'p>>,
    /// Whether the client queries its own key, which requires no scope and is charged to
    /// [`crate::limit::INTROSPECTION_LIMIT`] instead of the key's limits.
    pub is_introspection: bool,
    /// The outcome, rate limits aside.
    pub outcome: Outcome,
}

/// The kind of a credential that is worth a lookup.
#[derive(Clone, Copy)]
enum CredentialKind {
    /// A key of this installation, with a valid checksum. If it is not found, it is unknown.
    Own,
    /// Possibly an imported key. If it is not found, it is not a key at all.
    Imported,
}

/// The destination of method and path, independent of the client.
struct Destination<'p> {
    route: Option<Route<'p>>,
    is_introspection: bool,
    ambiguous_path: bool,
}

/// Decides on a request. `find` looks up a digest in the snapshot.
pub fn authorize<'s, 'p>(
    policy: &'p Policy,
    settings: &'p GatewaySettings,
    call: &Call<'_>,
    find: impl FnOnce(&Digest) -> Option<CredentialView<'s>>,
) -> Decision<'s, 'p> {
    let unidentified = |outcome| {
        let outcome = match outcome {
            // The next component may judge the request by its original method.
            Outcome::PassedThrough if call.request.is_method_overridden => {
                Outcome::Denied(Denial::MethodOverridden)
            }
            outcome => outcome,
        };
        Destination::of(policy, settings, &call.request).decision(None, outcome)
    };
    let (text, otherwise) = match call.credential {
        Err(denial) => return unidentified(Outcome::Denied(denial)),
        Ok(SentCredential::Key(text)) => (Some(text), Outcome::Denied(Denial::MalformedKey)),
        Ok(SentCredential::NonKey { token, denial }) => (token, settings.non_key_credentials.outcome(denial)),
    };
    let candidate = text.and_then(|text| Some((text, CredentialKind::of(policy, text)?)));
    let Some((text, kind)) = candidate else { return unidentified(otherwise) };
    match (find(&Digest::of(text)), kind) {
        (Some(credential), _) => authorize_credential(policy, settings, &call.request, credential),
        (None, CredentialKind::Own) => unidentified(Outcome::Denied(Denial::UnknownKey)),
        (None, CredentialKind::Imported) => unidentified(otherwise),
    }
}

/// Decides on a hypothetical request with a key that is given by name, not by its secret: steps 3 to 5, and
/// of the steps before them only whether the secret would be looked up at all. `imported` is whether another
/// system issued the key.
pub fn authorize_named<'s, 'p>(
    policy: &'p Policy,
    settings: &'p GatewaySettings,
    request: &Request<'_>,
    credential: CredentialView<'s>,
    imported: bool,
) -> Decision<'s, 'p> {
    if imported && !policy.document().imported_keys {
        let denied = Outcome::Denied(Denial::MalformedKey);
        return Destination::of(policy, settings, request).decision(None, denied);
    }
    authorize_credential(policy, settings, request, credential)
}

/// Decides on a request to which a gateway has redirected another one itself. `digest` is that of the other request's
/// credential, which the gateway has removed.
pub fn authorize_redirected<'s, 'p>(
    policy: &'p Policy,
    settings: &'p GatewaySettings,
    request: &Request<'_>,
    digest: &Digest,
    find: impl FnOnce(&Digest) -> Option<CredentialView<'s>>,
) -> Decision<'s, 'p> {
    match find(digest) {
        Some(credential) => authorize_credential(policy, settings, request, credential),
        None => {
            let denied = Outcome::Denied(Denial::UnknownKey);
            Destination::of(policy, settings, request).decision(None, denied)
        }
    }
}

/// Decides on a request whose key is known: steps 3 to 5.
pub fn authorize_credential<'s, 'p>(
    policy: &'p Policy,
    settings: &'p GatewaySettings,
    request: &Request<'_>,
    credential: CredentialView<'s>,
) -> Decision<'s, 'p> {
    let destination = Destination::of(policy, settings, request);
    let denial = check_key(&credential, request).or_else(|| {
        let overridden = request.is_method_overridden.then_some(Denial::MethodOverridden);
        overridden.or_else(|| check_destination(&credential, &destination))
    });
    destination.decision(Some(credential), denial.map_or(Outcome::Allowed, Outcome::Denied))
}

// === impl NonKeyCredentials ===

impl NonKeyCredentials {
    fn outcome(self, denial: Denial) -> Outcome {
        match self {
            Self::Refuse => Outcome::Denied(denial),
            Self::Passthrough => Outcome::PassedThrough,
        }
    }
}

// === impl CredentialKind ===

impl CredentialKind {
    fn of(policy: &Policy, credential: &[u8]) -> Option<Self> {
        if policy.key_prefix().check(credential).is_ok() {
            return Some(Self::Own);
        }
        policy.may_be_imported(credential).then_some(Self::Imported)
    }
}

// === impl Destination ===

impl<'p> Destination<'p> {
    fn of(policy: &'p Policy, settings: &'p GatewaySettings, request: &Request<'_>) -> Self {
        let target = Target::parse(request.target);
        let introspection_path = settings
            .introspection_path
            .as_deref()
            .filter(|path| target.is_ok_and(|target| target.path == *path));
        let route = match introspection_path {
            Some(template) => Ok(Some(Route { template, scope: None, payload: false, redacted: &[] })),
            None => target.and_then(|target| policy.route(request.method, &target)),
        };
        let is_introspection = introspection_path.is_some() && matches!(request.method, b"GET" | b"HEAD");
        Self { ambiguous_path: route.is_err(), route: route.ok().flatten(), is_introspection }
    }

    fn decision<'s>(self, credential: Option<CredentialView<'s>>, outcome: Outcome) -> Decision<'s, 'p> {
        Decision { credential, route: self.route, is_introspection: self.is_introspection, outcome }
    }
}

// === impl CredentialView ===

impl CredentialView<'_> {
    /// Step 3: why the key is not valid at this time; `None` if it is.
    pub fn invalidity(&self, now: UnixMillis) -> Option<Denial> {
        if self.revoked {
            return Some(Denial::KeyRevoked);
        }
        self.not_after.is_some_and(|end| now >= end).then_some(Denial::KeyExpired)
    }
}

/// Steps 3 and 4: validity and address.
fn check_key(credential: &CredentialView<'_>, request: &Request<'_>) -> Option<Denial> {
    if let Some(denial) = credential.invalidity(request.now) {
        return Some(denial);
    }
    if !credential.allowlist.admits(request.source) {
        return Some(Denial::IpNotAllowed);
    }
    None
}

/// Step 5: route and scope. Introspection requires neither.
fn check_destination(credential: &CredentialView<'_>, destination: &Destination<'_>) -> Option<Denial> {
    if destination.is_introspection {
        return None;
    }
    if destination.ambiguous_path {
        return Some(Denial::AmbiguousPath);
    }
    let Some(required) = destination.route.and_then(|route| route.scope) else {
        return Some(Denial::RouteNotMapped);
    };
    if !scope::grants(credential.scopes, required) {
        return Some(Denial::InsufficientScope);
    }
    None
}

#[cfg(test)]
mod tests;
