//! Events of the admin log: one for each change.

use std::fmt;
use std::str::FromStr;

use omniflow_policy::time::UnixMillis;
use serde_json::Value;
use uuid::Uuid;

/// The kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The first start created the installation.
    InstallationCreated,
    /// The databases were replaced with a backup.
    InstallationRestored,
    /// A key was created.
    KeyCreated,
    /// A key of another system was imported by its digest.
    KeyImported,
    /// The settings of a key were changed.
    KeyChanged,
    /// A key was rotated.
    KeyRotated,
    /// All versions of a key were revoked.
    KeyRevoked,
    /// One version of a key was revoked.
    KeyVersionRevoked,
    /// A key, or some of its versions, was revoked because secrets of it leaked.
    KeyLeaked,
    /// A policy was published.
    PolicySet,
    /// An older policy was published again.
    PolicyRolledBack,
    /// The arguments of a call were read.
    PayloadRead,
    /// The key that encrypts the arguments of calls was rotated.
    PayloadKeyRotated,
    /// A token was created.
    TokenCreated,
    /// A token was revoked.
    TokenRevoked,
    /// A run of a gateway was removed from the list.
    GatewayRemoved,
}

/// The error for a text that is not an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("action must be one of {}", Action::ALL.map(Action::as_str).join(", "))]
pub struct InvalidAction;

/// The principal: the token with which the change was requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrincipalRef {
    /// The token's identifier; `None` for the first start and for a restore.
    pub id: Option<Uuid>,
    /// The token's name.
    pub name: String,
}

/// The subject of the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The identifier of a key, token or gateway, or the number of a policy.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A change that is about to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAdminEvent {
    /// When the change is made.
    pub time: UnixMillis,
    /// The principal.
    pub principal: PrincipalRef,
    /// The kind of change.
    pub action: Action,
    /// The subject.
    pub subject: Subject,
    /// The changed fields before the change; `None` if there were none. Never contains a secret or a digest.
    pub before: Option<Value>,
    /// The changed fields after the change; `None` if there are none. Never contains a secret or a digest.
    pub after: Option<Value>,
}

/// A change that was made.
#[derive(Clone, Debug)]
pub struct AdminEvent {
    /// Its number. Later events have higher numbers.
    pub id: i64,
    /// The recorded change.
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
