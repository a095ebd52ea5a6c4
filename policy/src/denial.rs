//! Why a request is denied: reasons, their texts and stable codes; and the outcome of every request.
//!
//! The same code is the `code` of the problem document, a metric label, and the `reason` in the audit log.

use serde::{Deserialize, Serialize};

/// Why a request was denied. The order is part of the audit format: append, never reorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Denial {
    /// The request has no credential.
    MissingCredentials,
    /// The credential does not match the grammar of keys, or its checksum is wrong.
    MalformedKey,
    /// The credential is well-formed, but not a key of this installation.
    UnknownKey,
    /// The key or this version of it was revoked.
    KeyRevoked,
    /// The key has expired, or the overlap after its rotation is over.
    KeyExpired,
    /// The request has more than one credential.
    AmbiguousCredentials,
    /// The client's address is not in the key's IP allowlist.
    IpNotAllowed,
    /// The key does not have the scope that the route requires.
    InsufficientScope,
    /// No route in the policy matches path and method.
    RouteNotMapped,
    /// Servers can interpret the path in more than one way.
    AmbiguousPath,
    /// The request exceeds a rate limit of the key.
    RateLimited,
    /// The filter has no snapshot, or its snapshot is older than the operator allows.
    PolicyUnavailable,
    /// A header overrides the method, and the gateway does not apply it.
    MethodOverridden,
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// A key was accepted.
    Allowed,
    /// The credential is not a key, and the gateway passes such requests on, for another filter to check.
    PassedThrough,
    /// The request was denied.
    Denied(Denial),
}

impl Denial {
    /// All reasons, in the order of the enum.
    pub const ALL: [Self; 13] = [
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
        Self::MethodOverridden,
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
            Self::MethodOverridden => "method_overridden",
        }
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::AmbiguousPath | Self::MethodOverridden => 400,
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

    /// The equivalent gRPC status (grpc.github.io, "Status codes and their use in gRPC").
    pub const fn grpc_status(self) -> u8 {
        match self.status() {
            400 => 3,  // INVALID_ARGUMENT
            401 => 16, // UNAUTHENTICATED
            403 => 7,  // PERMISSION_DENIED
            429 => 8,  // RESOURCE_EXHAUSTED
            _ => 14,   // UNAVAILABLE
        }
    }

    /// What happened and what the client can do, for the problem document.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::MissingCredentials => {
                "Send your API key as 'Authorization: Bearer KEY' or as 'X-API-Key: KEY'."
            }
            Self::MalformedKey => {
                "The credential is not an API key for this service, or it was mistyped or truncated."
            }
            Self::UnknownKey => {
                "This API key does not exist. Check that you are calling the right installation."
            }
            Self::KeyRevoked => "This API key was revoked. Ask the service's administrator for a new one.",
            Self::KeyExpired => {
                "This API key has expired or was replaced by a rotation. Use the newer secret."
            }
            Self::AmbiguousCredentials => "Send exactly one credential, in one header, once.",
            Self::IpNotAllowed => "This API key may not be used from your address.",
            Self::InsufficientScope => "This API key does not have the scope that this call requires.",
            Self::RouteNotMapped => "No route in this service's API key policy matches this path and method.",
            Self::AmbiguousPath => {
                "The path is ambiguous. Send it without encoded or doubled separators, dot \
                 segments, parameters after ';', or needless percent-encoding."
            }
            Self::RateLimited => {
                "This API key has exceeded a rate limit. Retry after the number of seconds in Retry-After."
            }
            Self::PolicyUnavailable => "The gateway has no current key data yet. Try again shortly.",
            Self::MethodOverridden => {
                "A header such as X-HTTP-Method-Override specifies a different method from the request's own. Send the \
                 request with the intended method and without that header."
            }
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

    /// The outcome for a reason code.
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
    fn every_reason_parses_to_its_outcome() {
        for outcome in Outcome::all() {
            assert_eq!(Outcome::from_reason(outcome.reason()), Some(outcome));
        }
        assert_eq!(Outcome::from_reason("other"), None);
    }

    #[test]
    fn serialized_denials_are_their_codes() {
        for denial in Denial::ALL {
            assert_eq!(serde_json::to_value(denial).unwrap(), denial.code());
        }
    }
}
