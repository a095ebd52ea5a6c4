//! Tokens for the control plane itself, and their roles.

use std::fmt;
use std::str::FromStr;

use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::gateway_pattern::GatewayPattern;
use super::name::Name;

/// The role of a token: what its bearer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything, including tokens.
    Owner,
    /// Creates, changes and revokes keys.
    Admin,
    /// Reads keys, policy, gateways and the audit log.
    Auditor,
    /// For filters: fetches snapshots and delivers audit records.
    Gateway,
}

/// The error for a text that is not a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a role must be \"owner\", \"admin\", \"auditor\" or \"gateway\"")]
pub struct InvalidRole;

/// A token, as stored: without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its identifier, UUID version 7.
    pub id: Uuid,
    /// Its unique name.
    pub name: Name,
    /// Its role.
    pub role: Role,
    /// The gateways that a token with the gateway role is valid for; any if empty.
    pub gateways: Vec<GatewayPattern>,
    /// The SHA-256 of the whole token.
    pub digest: Digest,
    /// The name of the token with which this one was created.
    pub created_by: String,
    /// When it was created.
    pub created_at: UnixMillis,
    /// The time from which it is refused.
    pub expires_at: Option<UnixMillis>,
}

// === impl Role ===

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Admin, Self::Auditor, Self::Gateway];

    /// `owner`, `admin`, `auditor` or `gateway`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Auditor => "auditor",
            Self::Gateway => "gateway",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(InvalidRole)
    }
}

// === impl Token ===

impl Token {
    /// Whether the token is accepted at `now`.
    pub fn is_valid(&self, now: UnixMillis) -> bool {
        self.expires_at.is_none_or(|expires_at| now < expires_at)
    }

    /// Whether the token is valid for a gateway with this name.
    pub fn covers(&self, gateway: &str) -> bool {
        self.gateways.is_empty() || self.gateways.iter().any(|pattern| pattern.matches(gateway))
    }

    /// Whether the token lists exactly this name, not just a prefix of it.
    pub fn lists(&self, gateway: &str) -> bool {
        self.gateways.iter().any(|pattern| pattern.is_exactly(gateway))
    }
}
