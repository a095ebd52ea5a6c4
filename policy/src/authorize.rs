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

/// The form of a credential that is worth a look-up.
#[derive(Clone, Copy)]
enum Form {
    /// That of this installation's keys, with the right checksum. If it is not found, it is unknown.
    Own,
    /// Any other, which imported keys have. If it is not found, it was no key at all.
    Other,
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
    let (text, otherwise) = match call.credential {
        Err(denial) => return unidentified(Outcome::Denied(denial)),
        Ok(Presented::Key(text)) => (Some(text), Outcome::Denied(Denial::MalformedKey)),
        Ok(Presented::NonKey { token, denial }) => (token, settings.non_key_credentials.outcome(denial)),
    };
    let candidate = text.and_then(|text| Some((text, Form::of(policy, text)?)));
    let Some((text, form)) = candidate else { return unidentified(otherwise) };
    match (find(&Digest::of(text)), form) {
        (Some(credential), _) => authorize_credential(policy, settings, &call.request, credential),
        (None, Form::Own) => unidentified(Outcome::Denied(Denial::UnknownKey)),
        (None, Form::Other) => unidentified(otherwise),
    }
}

/// Decides on a request by the name of a credential, which nobody presents: all but steps 1 and 2, and of these whether
/// the secret would be looked up at all. `imported` tells whether another system has issued it.
pub fn authorize_named<'s, 'p>(
    policy: &'p Policy,
    settings: &'p GatewaySettings,
    request: &Request<'_>,
    credential: CredentialView<'s>,
    imported: bool,
) -> Decision<'s, 'p> {
    if imported && !policy.document().imported_keys {
        let refused = Outcome::Denied(Denial::MalformedKey);
        return Destination::of(policy, settings, request).decision(None, refused);
    }
    authorize_credential(policy, settings, request, credential)
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

// === impl NonKeyCredentials ===

impl NonKeyCredentials {
    fn outcome(self, denial: Denial) -> Outcome {
        match self {
            Self::Refuse => Outcome::Denied(denial),
            Self::Passthrough => Outcome::PassedThrough,
        }
    }
}

// === impl Form ===

impl Form {
    fn of(policy: &Policy, credential: &[u8]) -> Option<Self> {
        if policy.key_prefix().check(credential).is_ok() {
            return Some(Self::Own);
        }
        policy.may_be_imported(credential).then_some(Self::Other)
    }
}

// === impl Destination ===

impl<'p> Destination<'p> {
    fn of(policy: &'p Policy, settings: &'p GatewaySettings, request: &Request<'_>) -> Self {
        let target = Target::parse(request.target);
        let info_path =
            settings.key_info_path.as_deref().filter(|path| target.is_ok_and(|target| target.path == *path));
        let route = match info_path {
            Some(template) => Ok(Some(Route { template, scope: None, payload: false })),
            None => target.and_then(|target| policy.route(request.method, &target)),
        };
        let asks_about_key = info_path.is_some() && matches!(request.method, b"GET" | b"HEAD");
        Self { ambiguous_path: route.is_err(), route: route.ok().flatten(), asks_about_key }
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

#[cfg(test)]
mod tests {
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::credential::present;
    use crate::policy::{MAX_IMPORTED_KEY_LENGTH, PolicyDocument};

    fn imported() -> CredentialView<'static> {
        CredentialView {
            key_id: Uuid::from_u128(1),
            version: 1,
            name: "imported",
            environment: Environment::Live,
            revoked: false,
            not_after: None,
            scopes: "contacts:read",
            rate_limit: RateLimit::default(),
            allowlist: AllowlistView::from_bytes(&[]).unwrap(),
        }
    }

    /// What becomes of a header, the reason first, and how often the snapshot was asked. Everything that is looked up
    /// is found if `found`.
    fn decide(
        imported_keys: bool,
        passthrough: bool,
        header: (&str, &str),
        found: bool,
    ) -> (&'static str, u32) {
        let policy = Policy::compile(PolicyDocument { imported_keys, ..PolicyDocument::default() }).unwrap();
        let non_key_credentials =
            if passthrough { NonKeyCredentials::Passthrough } else { NonKeyCredentials::Refuse };
        let settings = GatewaySettings { non_key_credentials, key_info_path: None };
        let (name, value) = header;
        let call = Call {
            credential: present([(name.as_bytes(), value.as_bytes())], policy.key_prefix()),
            request: Request {
                method: b"GET",
                target: b"/api/v1/contacts",
                source: None,
                now: UnixMillis(0),
            },
        };
        let mut asked = 0;
        let decision = authorize(&policy, &settings, &call, |digest| {
            asked += 1;
            let text = value.strip_prefix("Bearer ").unwrap_or(value);
            assert_eq!(*digest, Digest::of(text.as_bytes()));
            found.then(imported)
        });
        assert_eq!(decision.credential.is_some(), asked == 1 && found);
        (decision.outcome.reason(), asked)
    }

    #[test]
    fn imported_keys_are_looked_up_where_the_policy_says_so() {
        let longest = "k".repeat(MAX_IMPORTED_KEY_LENGTH);
        for secret in ["sk_live_4eC39HqLyjWDarjtT1zdp7dc", "a", "omf", longest.as_str()] {
            let bearer = format!("Bearer {secret}");
            for header in [("x-api-key", secret), ("authorization", bearer.as_str())] {
                let refused = if header.0 == "x-api-key" { "malformed_key" } else { "non_key_credential" };
                assert_eq!(decide(true, false, header, true), ("allowed", 1), "{header:?}");
                assert_eq!(decide(true, true, header, true), ("allowed", 1), "{header:?}");
                assert_eq!(decide(true, false, header, false), ("malformed_key", 1), "{header:?}");
                assert_eq!(decide(true, true, header, false), (refused, 1), "{header:?}");
                assert_eq!(decide(false, false, header, true), ("malformed_key", 0), "{header:?}");
                assert_eq!(decide(false, true, header, true), (refused, 0), "{header:?}");
            }
        }
    }

    #[test]
    fn what_is_no_imported_key_is_never_looked_up() {
        let longer = "k".repeat(MAX_IMPORTED_KEY_LENGTH + 1);
        let bearer = format!("Bearer {longer}");
        for (header, refused, let_through) in [
            (("x-api-key", longer.as_str()), "malformed_key", "malformed_key"),
            (("authorization", bearer.as_str()), "malformed_key", "non_key_credential"),
            (("x-api-key", ""), "malformed_key", "malformed_key"),
            (("x-api-key", "omf_live_4eC39HqLyjWDarjtT1zdp7dc"), "malformed_key", "malformed_key"),
            (("authorization", "Bearer omf_token_x"), "malformed_key", "malformed_key"),
            (("authorization", "Bearer a b"), "malformed_key", "malformed_key"),
            (("authorization", "Bearer "), "malformed_key", "malformed_key"),
            (("authorization", "Basic c2tfbGl2ZQ=="), "missing_credentials", "non_key_credential"),
            (("authorization", "sk_live_x"), "missing_credentials", "non_key_credential"),
            (("x-api-key", "a,b"), "ambiguous_credentials", "ambiguous_credentials"),
        ] {
            assert_eq!(decide(true, false, header, true), (refused, 0), "{header:?}");
            assert_eq!(decide(true, true, header, true), (let_through, 0), "{header:?}");
        }
    }
}
