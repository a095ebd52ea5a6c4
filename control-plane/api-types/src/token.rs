//! Tokens in JSON.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;
use zeroize::Zeroize;

use super::schema;
use super::time::Time;
use omniflow_domain::gateway::RequestCounts;
use omniflow_domain::gateway_pattern::GatewayPattern;
use omniflow_domain::name::Name;
use omniflow_domain::token::{Role, Token};

/// Body of `POST /v1/tokens`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "edge", "role": "gateway", "gateways": ["edge"]}))]
pub struct CreateToken {
    /// Name of the token; must be unique.
    #[schema(value_type = schema::KeyName)]
    pub name: String,
    /// Role of the token: `owner`, `admin`, `auditor` or `gateway`.
    #[schema(value_type = schema::Role)]
    pub role: String,
    /// Gateways for which the token is valid; any gateway if omitted. Only for the role `gateway`.
    #[serde(default)]
    #[schema(value_type = Vec<schema::GatewayPattern>, max_items = 100)]
    pub gateways: Vec<String>,
    /// When the token expires; if omitted, it never expires.
    #[serde(default)]
    #[schema(value_type = Option<schema::Instant>)]
    pub expires_at: Option<String>,
}

/// A token.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Token)]
pub struct TokenJson {
    /// Identifier of the token.
    #[schema(value_type = schema::Identifier)]
    pub id: Uuid,
    /// Name of the token.
    #[schema(value_type = schema::KeyName)]
    pub name: Name,
    /// Role of the token.
    #[schema(value_type = schema::Role)]
    pub role: Role,
    /// Gateways for which the token is valid; any if empty.
    #[schema(value_type = Vec<schema::GatewayPattern>)]
    pub gateways: Vec<GatewayPattern>,
    /// Name of the token that created this one.
    pub created_by: String,
    /// When the token was created.
    #[schema(value_type = schema::Instant)]
    pub created_at: Time,
    /// When the token expires; null if it never expires.
    #[schema(value_type = Option<schema::Instant>, required = true)]
    pub expires_at: Option<Time>,
    /// Requests of gateways with the token since the control plane started; null for another role than `gateway`.
    #[schema(required = true)]
    pub gateway_requests: Option<GatewayRequestsJson>,
}

/// Requests of gateways with a token since the control plane started.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[schema(as = GatewayRequests)]
pub struct GatewayRequestsJson {
    /// Polls.
    pub polls: u64,
    /// Polls, reports and batches that were refused because of the token, the number of runs or the version.
    pub refused: u64,
}

/// A new token with its secret. The secret is shown only once.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// The token.
    pub token: TokenJson,
    /// The secret.
    #[schema(value_type = schema::Secret)]
    pub secret: String,
}

impl Drop for CreatedToken {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

// === impl GatewayRequestsJson ===

impl From<RequestCounts> for GatewayRequestsJson {
    fn from(RequestCounts { polls, refused }: RequestCounts) -> Self {
        Self { polls, refused }
    }
}

// === impl TokenJson ===

impl From<Token> for TokenJson {
    fn from(token: Token) -> Self {
        Self {
            id: token.id,
            name: token.name,
            role: token.role,
            gateways: token.gateways,
            created_by: token.created_by,
            created_at: Time(token.created_at),
            expires_at: token.expires_at.map(Time),
            gateway_requests: (token.role == Role::Gateway).then(GatewayRequestsJson::default),
        }
    }
}
