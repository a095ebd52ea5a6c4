//! Tokens in JSON.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::time::Time;
use crate::model::name::Name;
use crate::model::token::{Role, Token};

/// `POST /v1/tokens`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateToken {
    /// A name that no other token has.
    pub(crate) name: String,
    /// `owner`, `admin`, `auditor` or `gateway`.
    pub(crate) role: String,
    /// When it ends.
    #[serde(default)]
    pub(crate) expires_at: Option<String>,
}

/// A token.
#[derive(Debug, Serialize)]
pub(crate) struct TokenJson {
    id: Uuid,
    name: Name,
    role: Role,
    created_by: String,
    created_at: Time,
    expires_at: Option<Time>,
}

/// A new token with its secret, which is shown this once.
#[derive(Serialize)]
pub(crate) struct CreatedToken {
    /// The token.
    pub(crate) token: TokenJson,
    /// The secret.
    pub(crate) secret: String,
}

// === impl TokenJson ===

impl From<Token> for TokenJson {
    fn from(token: Token) -> Self {
        Self {
            id: token.id,
            name: token.name,
            role: token.role,
            created_by: token.created_by,
            created_at: Time(token.created_at),
            expires_at: token.expires_at.map(Time),
        }
    }
}
