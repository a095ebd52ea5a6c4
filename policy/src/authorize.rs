//! Steps 1 to 5 of a request: is this caller allowed to make this call, limits aside?

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
    /// What becomes of the call, its limits aside.
    pub outcome: Outcome,
}

/// Decides on a call. `find` looks a digest up in the snapshot.
pub fn authorize<'s, 'p>(
    policy: &'p Policy,
    non_key: NonKeyCredentials,
    call: &Call<'_>,
    find: impl FnOnce(&Digest) -> Option<CredentialView<'s>>,
) -> Decision<'s, 'p> {
    let target = Target::parse(call.target);
    let route = target.ok().and_then(|target| policy.route(call.method, &target));
    let decide = |credential, outcome| Decision { credential, route, outcome };

    let secret = match call.credential {
        Ok(Presented::Key(secret)) => secret,
        Ok(Presented::NonKey(_)) if non_key == NonKeyCredentials::Passthrough => {
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
    let refusal = refusal(&credential, route, target.is_err(), call);
    decide(Some(credential), refusal.map_or(Outcome::Allowed, Outcome::Denied))
}

/// Steps 3 to 5, in this order: validity, address, path and scope.
fn refusal(
    credential: &CredentialView<'_>,
    route: Option<Route<'_>>,
    ambiguous_path: bool,
    call: &Call<'_>,
) -> Option<Denial> {
    if credential.revoked {
        return Some(Denial::KeyRevoked);
    }
    if credential.not_after.is_some_and(|end| call.now >= end) {
        return Some(Denial::KeyExpired);
    }
    if !credential.allowlist.admits(call.source) {
        return Some(Denial::IpNotAllowed);
    }
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
