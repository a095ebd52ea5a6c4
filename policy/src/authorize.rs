//! Steps 1 to 5 of a request: is this caller allowed to make this call, limits aside?

use alloc::string::String;
use core::net::IpAddr;

use uuid::Uuid;

use crate::address::AllowlistView;
use crate::credential::Presented;
use crate::digest::Digest;
use crate::key::Environment;
use crate::limit::RateLimit;
use crate::outcome::{Denial, Outcome};
use crate::path::Target;
use crate::policy::{Policy, Route};
use crate::scope;
use crate::time::UnixMillis;

/// A request with the credential that it presents.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The credential, as found by [`crate::credential::present`].
    pub credential: Result<Presented<'a>, Denial>,
    /// What is asked for.
    pub request: Request<'a>,
}

/// What a decision needs to know of a request, its credential aside.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, in the case it travels in.
    pub method: &'a [u8],
    /// The value of `:path`; empty where the request has none.
    pub target: &'a [u8],
    /// The caller's address, where it is known.
    pub source: Option<IpAddr>,
    /// Now.
    pub now: UnixMillis,
}

/// The path at which callers ask about their own key, unless the operator chose another.
pub const KEY_INFO_PATH: &str = "/.well-known/omniflow/key";

/// What the operator of a gateway has decided, apart from the policy that all gateways share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewaySettings {
    /// What becomes of callers with another credential than a key.
    pub non_key_credentials: NonKeyCredentials,
    /// Where callers ask about their own key; the gateway answers itself. `None` where they cannot.
    pub key_info_path: Option<String>,
}

/// Whether callers with another credential than a key are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NonKeyCredentials {
    /// They are refused.
    #[default]
    Refuse,
    /// They go on untouched and unmarked, for another filter to judge.
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
    /// When it stops being valid: the key's expiry or the end of the overlap, whichever is earlier.
    pub not_after: Option<UnixMillis>,
    /// Its scopes, joined by spaces.
    pub scopes: &'s str,
    /// Its limits.
    pub rate_limit: RateLimit,
    /// From where it may be used.
    pub allowlist: AllowlistView<'s>,
}

/// The decision, and what it was made from.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'s, 'p> {
    /// The key, where the caller presented one that exists, valid or not.
    pub credential: Option<CredentialView<'s>>,
    /// The route, where path and policy have one, also of a refused call.
    pub route: Option<Route<'p>>,
    /// Whether the caller asks about its own key: no scope is needed and no limit charged.
    pub asks_about_key: bool,
    /// What becomes of the call, its limits aside.
    pub outcome: Outcome,
}

/// What method and path lead to, whoever calls.
struct Destination<'p> {
    route: Option<Route<'p>>,
    asks_about_key: bool,
    ambiguous_path: bool,
}

/// Decides on a call. `find` looks a digest up in the snapshot.
pub fn authorize<'s, 'p>(
    policy: &'p Policy,
    settings: &'p GatewaySettings,
    call: &Call<'_>,
    find: impl FnOnce(&Digest) -> Option<CredentialView<'s>>,
) -> Decision<'s, 'p> {
    let unidentified = |outcome| Destination::of(policy, settings, &call.request).decision(None, outcome);
    let secret = match call.credential {
        Ok(Presented::Key(secret)) => secret,
        Ok(Presented::NonKey(_)) if settings.non_key_credentials == NonKeyCredentials::Passthrough => {
            return unidentified(Outcome::PassedThrough);
        }
        Ok(Presented::NonKey(denial)) | Err(denial) => return unidentified(Outcome::Denied(denial)),
    };
    if policy.key_prefix().check(secret).is_err() {
        return unidentified(Outcome::Denied(Denial::MalformedKey));
    }
    match find(&Digest::of(secret)) {
        Some(credential) => authorize_credential(policy, settings, &call.request, credential),
        None => unidentified(Outcome::Denied(Denial::UnknownKey)),
    }
}

/// Decides on a request whose caller is known to hold this credential: steps 3 to 5.
pub fn authorize_credential<'s, 'p>(
    policy: &'p Policy,
    settings: &'p GatewaySettings,
    request: &Request<'_>,
    credential: CredentialView<'s>,
) -> Decision<'s, 'p> {
    let destination = Destination::of(policy, settings, request);
    let refusal =
        refusal_of_key(&credential, request).or_else(|| refusal_of_destination(&credential, &destination));
    destination.decision(Some(credential), refusal.map_or(Outcome::Allowed, Outcome::Denied))
}

// === impl Destination ===

impl<'p> Destination<'p> {
    fn of(policy: &'p Policy, settings: &'p GatewaySettings, request: &Request<'_>) -> Self {
        let target = Target::parse(request.target);
        let info_path =
            settings.key_info_path.as_deref().filter(|path| target.is_ok_and(|target| target.path == *path));
        let route = match info_path {
            Some(template) => Some(Route { template, scope: None }),
            None => target.ok().and_then(|target| policy.route(request.method, &target)),
        };
        let asks_about_key = info_path.is_some() && matches!(request.method, b"GET" | b"HEAD");
        Self { route, asks_about_key, ambiguous_path: target.is_err() }
    }

    fn decision<'s>(self, credential: Option<CredentialView<'s>>, outcome: Outcome) -> Decision<'s, 'p> {
        Decision { credential, route: self.route, asks_about_key: self.asks_about_key, outcome }
    }
}

/// Steps 3 and 4: validity, then address.
fn refusal_of_key(credential: &CredentialView<'_>, request: &Request<'_>) -> Option<Denial> {
    if credential.revoked {
        return Some(Denial::KeyRevoked);
    }
    if credential.not_after.is_some_and(|end| request.now >= end) {
        return Some(Denial::KeyExpired);
    }
    if !credential.allowlist.admits(request.source) {
        return Some(Denial::IpNotAllowed);
    }
    None
}

/// Step 5: path, then scope. A caller that asks about its own key needs neither route nor scope.
fn refusal_of_destination(credential: &CredentialView<'_>, destination: &Destination<'_>) -> Option<Denial> {
    if destination.asks_about_key {
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
