//! Tokens in JSON.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;
use zeroize::Zeroize;

use super::schema;
use super::time::Time;
use crate::model::name::Name;
use crate::model::token::{Role, Token};

/// `POST /v1/tokens`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "edge", "role": "gateway"}))]
pub(crate) struct CreateToken {
    /// A name that no other token has.
    #[schema(value_type = schema::KeyName)]
    pub(crate) name: String,
    /// `owner`, `admin`, `auditor` or `gateway`.
    #[schema(value_type = schema::Role)]
    pub(crate) role: String,
    /// When it ends.
    #[serde(default)]
    #[schema(value_type = Option<schema::Instant>)]
    pub(crate) expires_at: Option<String>,
}

/// A token.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Token)]
pub(crate) struct TokenJson {
    #[schema(value_type = schema::Identifier)]
    pub(crate) id: Uuid,
    #[schema(value_type = schema::KeyName)]
    pub(crate) name: Name,
    #[schema(value_type = schema::Role)]
    pub(crate) role: Role,
    pub(crate) created_by: String,
    #[schema(value_type = schema::Instant)]
    pub(crate) created_at: Time,
    #[schema(value_type = Option<schema::Instant>, required = true)]
    pub(crate) expires_at: Option<Time>,
}

/// A new token with its secret, which is shown this once.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedToken {
    /// The token.
    pub(crate) token: TokenJson,
    /// The secret.
    #[schema(value_type = schema::Secret)]
    pub(crate) secret: String,
}

impl Drop for CreatedToken {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
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
