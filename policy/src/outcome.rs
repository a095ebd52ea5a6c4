//! Decisions and their stable reason codes.
//!
//! One code serves as `code` in the problem document, as metric label and as `reason` in the audit log.

use serde::{Deserialize, Serialize};

/// Why a call was refused. The order is part of the audit format: append, never reorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Denial {
    /// The request has no credential.
    MissingCredentials,
    /// The credential has not the form of a key, or its checksum is wrong.
    MalformedKey,
    /// Well formed, but no key of this installation.
    UnknownKey,
    /// The key, or this version of it, was revoked.
    KeyRevoked,
    /// The key has expired, or the overlap after its rotation is over.
    KeyExpired,
    /// More than one credential.
    AmbiguousCredentials,
    /// The caller's address is not on the key's list.
    IpNotAllowed,
    /// The key has not the scope that the route needs.
    InsufficientScope,
    /// No route of the policy matches path and method.
    RouteNotMapped,
    /// The path has more than one reading.
    AmbiguousPath,
    /// A limit of the key is used up.
    RateLimited,
    /// The filter has no snapshot, or one older than the operator allows.
    PolicyUnavailable,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// A key was accepted.
    Allowed,
    /// The credential is no key and the operator lets such calls through, for another filter to judge.
    PassedThrough,
    /// Refused.
    Denied(Denial),
}

impl Denial {
    /// All reasons, in the order of the enum.
    pub const ALL: [Self; 12] = [
        Self::MissingCredentials,
        Self::MalformedKey,
        Self::UnknownKey,
        Self::KeyRevoked,
        Self::KeyExpired,
        Self::AmbiguousCredentials,
        Self::IpNotAllowed,
        Self::InsufficientScope,
        Self::RouteNotMapped,
        Self::AmbiguousPath,
        Self::RateLimited,
        Self::PolicyUnavailable,
    ];

    /// The stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::MissingCredentials => "missing_credentials",
            Self::MalformedKey => "malformed_key",
            Self::UnknownKey => "unknown_key",
            Self::KeyRevoked => "key_revoked",
            Self::KeyExpired => "key_expired",
            Self::AmbiguousCredentials => "ambiguous_credentials",
            Self::IpNotAllowed => "ip_not_allowed",
            Self::InsufficientScope => "insufficient_scope",
            Self::RouteNotMapped => "route_not_mapped",
            Self::AmbiguousPath => "ambiguous_path",
            Self::RateLimited => "rate_limited",
            Self::PolicyUnavailable => "policy_unavailable",
        }
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::AmbiguousPath => 400,
            Self::MissingCredentials
            | Self::MalformedKey
            | Self::UnknownKey
            | Self::KeyRevoked
            | Self::KeyExpired
            | Self::AmbiguousCredentials => 401,
            Self::IpNotAllowed | Self::InsufficientScope | Self::RouteNotMapped => 403,
            Self::RateLimited => 429,
            Self::PolicyUnavailable => 503,
        }
    }

    /// The gRPC status of the same meaning (grpc.github.io, "Status codes and their use in gRPC").
    pub const fn grpc_status(self) -> u8 {
        match self.status() {
            400 => 3,  // INVALID_ARGUMENT
            401 => 16, // UNAUTHENTICATED
            403 => 7,  // PERMISSION_DENIED
            429 => 8,  // RESOURCE_EXHAUSTED
            _ => 14,   // UNAVAILABLE
        }
    }

    /// What went wrong and what the caller can do, in one sentence.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::MissingCredentials => {
                "Send your API key as 'Authorization: Bearer KEY' or as 'X-API-Key: KEY'."
            }
            Self::MalformedKey => {
                "The credential is not an API key of this service, or it was mistyped or cut short."
            }
            Self::UnknownKey => "No such API key exists here. Check that you use the right installation.",
            Self::KeyRevoked => "This API key was revoked. Ask the service's administrator for a new one.",
            Self::KeyExpired => {
                "This API key has expired or was replaced by a rotation. Use the newer secret."
            }
            Self::AmbiguousCredentials => "Send exactly one credential, in one header, once.",
            Self::IpNotAllowed => "This API key may not be used from your address.",
            Self::InsufficientScope => "This API key does not have the scope that this call needs.",
            Self::RouteNotMapped => "No route of this service's API-key policy has this path and method.",
            Self::AmbiguousPath => {
                "The path can be read in more than one way. Send it without encoded or doubled separators, dot \
                 segments, parameters behind ';', or needless percent-encoding."
            }
            Self::RateLimited => "This API key has used up a limit. Wait as long as Retry-After says.",
            Self::PolicyUnavailable => "The gateway has no current key data yet. Try again shortly.",
        }
    }
}

impl Outcome {
    /// All outcomes.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Allowed, Self::PassedThrough].into_iter().chain(Denial::ALL.map(Self::Denied))
    }

    /// The stable reason: a denial's code, `allowed` or `non_key_credential`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::PassedThrough => "non_key_credential",
            Self::Denied(denial) => denial.code(),
        }
    }

    /// `allowed` or `denied`.
    pub const fn decision(self) -> &'static str {
        match self {
            Self::Allowed | Self::PassedThrough => "allowed",
            Self::Denied(_) => "denied",
        }
    }

    /// The outcome with this reason.
    pub fn from_reason(reason: &str) -> Option<Self> {
        Self::all().find(|outcome| outcome.reason() == reason)
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn codes_are_unique_and_found_again() {
        for outcome in Outcome::all() {
            assert_eq!(Outcome::from_reason(outcome.reason()), Some(outcome));
        }
        assert_eq!(Outcome::from_reason("other"), None);
    }

    #[test]
    fn serde_and_code_agree() {
        for denial in Denial::ALL {
            assert_eq!(serde_json::to_value(denial).unwrap(), denial.code());
        }
    }
}
