//! Why a token is not accepted.

use std::fmt;

/// Why a request was not authenticated, or its token not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rejection {
    /// No token was sent, or more than one.
    NoToken,
    /// The token never existed or was revoked: revoked tokens are not kept.
    UnknownToken,
    /// The token has expired.
    ExpiredToken,
    /// A call of the gateway protocol used a token with another role.
    WrongRole,
}

// === impl Rejection ===

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoToken => "no token, or more than one",
            Self::UnknownToken => "the token is unknown or was revoked",
            Self::ExpiredToken => "the token has expired",
            Self::WrongRole => "the token does not have the gateway role",
        })
    }
}
