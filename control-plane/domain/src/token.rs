//! Tokens for the control plane itself, and the roles they carry.

use std::fmt;
use std::str::FromStr;

use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::gateway_pattern::GatewayPattern;
use super::name::Name;

/// What the bearer of a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything, tokens included.
    Owner,
    /// Issues, changes and revokes keys.
    Admin,
    /// Reads keys, policy, gateways and the audit log.
    Auditor,
    /// A filter: takes snapshots and delivers audit records.
    Gateway,
}

/// A word that names no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a role is \"owner\", \"admin\", \"auditor\" or \"gateway\"")]
pub struct InvalidRole;

/// A token as it is stored: its secret is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its identifier, UUID version 7.
    pub id: Uuid,
    /// A name that no other token has.
    pub name: Name,
    /// What its bearer may do.
    pub role: Role,
    /// The gateways that a token with the role gateway is valid for; any if empty.
    pub gateways: Vec<GatewayPattern>,
    /// The SHA-256 of the whole token.
    pub digest: Digest,
    /// The name of the token with which this one was made.
    pub created_by: String,
    /// When it was made.
    pub created_at: UnixMillis,
    /// From when on it is refused.
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

    /// Whether the token lists exactly this name, not only the start of it.
    pub fn lists(&self, gateway: &str) -> bool {
        self.gateways.iter().any(|pattern| pattern.is_exactly(gateway))
    }
}
