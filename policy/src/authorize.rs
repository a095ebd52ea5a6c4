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

/// What a decision needs to know of a request.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The credential, as found by [`crate::credential::present`].
    pub credential: Result<Presented<'a>, Denial>,
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

/// Decides on a call. `find` looks a digest up in the snapshot.
pub fn authorize<'s, 'p>(
    policy: &'p Policy,
    settings: &'p GatewaySettings,
    call: &Call<'_>,
    find: impl FnOnce(&Digest) -> Option<CredentialView<'s>>,
) -> Decision<'s, 'p> {
    let target = Target::parse(call.target);
    let info_path =
        settings.key_info_path.as_deref().filter(|path| target.is_ok_and(|target| target.path == *path));
    let asks_about_key = info_path.is_some() && matches!(call.method, b"GET" | b"HEAD");
    let route = match info_path {
        Some(template) => Some(Route { template, scope: None }),
        None => target.ok().and_then(|target| policy.route(call.method, &target)),
    };
    let decide = |credential, outcome| Decision { credential, route, asks_about_key, outcome };

    let secret = match call.credential {
        Ok(Presented::Key(secret)) => secret,
        Ok(Presented::NonKey(_)) if settings.non_key_credentials == NonKeyCredentials::Passthrough => {
            return decide(None, Outcome::PassedThrough);
        }
        Ok(Presented::NonKey(denial)) | Err(denial) => return decide(None, Outcome::Denied(denial)),
    };
    if policy.key_prefix().check(secret).is_err() {
        return decide(None, Outcome::Denied(Denial::MalformedKey));
    }
    let Some(credential) = find(&Digest::of(secret)) else {
        return decide(None, Outcome::Denied(Denial::UnknownKey));
    };
    let refusal = refusal_of_key(&credential, call).or_else(|| match asks_about_key {
        true => None,
        false => refusal_of_route(&credential, route, target.is_err()),
    });
    decide(Some(credential), refusal.map_or(Outcome::Allowed, Outcome::Denied))
}

/// Steps 3 and 4: validity, then address.
fn refusal_of_key(credential: &CredentialView<'_>, call: &Call<'_>) -> Option<Denial> {
    if credential.revoked {
        return Some(Denial::KeyRevoked);
    }
    if credential.not_after.is_some_and(|end| call.now >= end) {
        return Some(Denial::KeyExpired);
    }
    if !credential.allowlist.admits(call.source) {
        return Some(Denial::IpNotAllowed);
    }
    None
}

/// Step 5: path, then scope.
fn refusal_of_route(
    credential: &CredentialView<'_>,
    route: Option<Route<'_>>,
    ambiguous_path: bool,
) -> Option<Denial> {
    if ambiguous_path {
        return Some(Denial::AmbiguousPath);
    }
    let Some(required) = route.and_then(|route| route.scope) else {
        return Some(Denial::RouteNotMapped);
    };
    if !scope::grants(credential.scopes, required) {
        return Some(Denial::InsufficientScope);
    }
    None
}
