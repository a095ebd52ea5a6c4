//! What admins did: one event for each change.

use std::fmt;
use std::str::FromStr;

use omniflow_policy::time::UnixMillis;
use serde_json::Value;
use uuid::Uuid;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The first start made the installation.
    InstallationCreated,
    /// A backup took the place of the databases.
    InstallationRestored,
    /// A key was issued.
    KeyCreated,
    /// A key of another system was taken over by its digest.
    KeyImported,
    /// The settings of a key were changed.
    KeyChanged,
    /// A key got another version.
    KeyRotated,
    /// All versions of a key were revoked.
    KeyRevoked,
    /// One version of a key was revoked.
    KeyVersionRevoked,
    /// A key was revoked, wholly or in versions, because secrets of it were found where they must not be.
    KeyLeaked,
    /// A policy was set.
    PolicySet,
    /// An older policy was set again.
    PolicyRolledBack,
    /// The arguments of a call were read.
    PayloadRead,
    /// The key that seals the arguments of calls was changed.
    PayloadKeyRotated,
    /// A token was made.
    TokenCreated,
    /// A token was revoked.
    TokenRevoked,
    /// A run of a gateway was removed from the list.
    GatewayRemoved,
}

/// A word that names no action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("action must be one of {}", Action::ALL.map(Action::as_str).join(", "))]
pub struct InvalidAction;

/// Who did it: the token with which the change was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrincipalRef {
    /// The token's identifier; `None` for the first start, and for a restore.
    pub id: Option<Uuid>,
    /// The token's name.
    pub name: String,
}

/// What it was done to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The identifier of a key, token or gateway, or the number of a policy.
    pub id: String,
    /// What people call it.
    pub name: String,
}

/// A change that is about to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAdminEvent {
    /// When it is made.
    pub time: UnixMillis,
    /// Who makes it.
    pub principal: PrincipalRef,
    /// What is done.
    pub action: Action,
    /// What it is done to.
    pub subject: Subject,
    /// What was otherwise before; `None` where there was nothing. Never a secret or a digest.
    pub before: Option<Value>,
    /// What is otherwise since; `None` where nothing is left. Never a secret or a digest.
    pub after: Option<Value>,
}

/// A change that was made.
#[derive(Clone, Debug)]
pub struct AdminEvent {
    /// Its number. Later events have higher ones.
    pub id: i64,
    /// What was noted of it.
    pub noted: NewAdminEvent,
}

/// Which entries a list contains. The default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminLogFilter {
    /// Only entries with this action.
    pub action: Option<Action>,
    /// Only entries by the token with this name or identifier.
    pub principal: Option<String>,
    /// Only entries about the key, token or policy with this identifier or name.
    pub subject: Option<String>,
    /// Only entries at this instant or later.
    pub from: Option<UnixMillis>,
    /// Only entries before this instant.
    pub to: Option<UnixMillis>,
}

// === impl Action ===

impl Action {
    /// All actions.
    pub const ALL: [Self; 16] = [
        Self::InstallationCreated,
        Self::InstallationRestored,
        Self::KeyCreated,
        Self::KeyImported,
        Self::KeyChanged,
        Self::KeyRotated,
        Self::KeyRevoked,
        Self::KeyVersionRevoked,
        Self::KeyLeaked,
        Self::PolicySet,
        Self::PolicyRolledBack,
        Self::PayloadRead,
        Self::PayloadKeyRotated,
        Self::TokenCreated,
        Self::TokenRevoked,
        Self::GatewayRemoved,
    ];

    /// The stable code, such as `key.created`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InstallationCreated => "installation.created",
            Self::InstallationRestored => "installation.restored",
            Self::KeyCreated => "key.created",
            Self::KeyImported => "key.imported",
            Self::KeyChanged => "key.changed",
            Self::KeyRotated => "key.rotated",
            Self::KeyRevoked => "key.revoked",
            Self::KeyVersionRevoked => "key.version_revoked",
            Self::KeyLeaked => "key.leaked",
            Self::PolicySet => "policy.set",
            Self::PolicyRolledBack => "policy.rolled_back",
            Self::PayloadRead => "payload.read",
            Self::PayloadKeyRotated => "payload_key.rotated",
            Self::TokenCreated => "token.created",
            Self::TokenRevoked => "token.revoked",
            Self::GatewayRemoved => "gateway.removed",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Action {
    type Err = InvalidAction;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|action| action.as_str() == text).ok_or(InvalidAction)
    }
}
