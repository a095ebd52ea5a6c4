//! Selection of keys in requests.

use omniflow_policy::key::Environment;
use omniflow_policy::scope::Scope;
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use super::model::KeyOrder;
use super::status::KeyStatus;

/// Identifies a key in a request. Text that parses as a UUID is an identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyReference {
    /// Its identifier.
    Id(Uuid),
    /// Its name.
    Name(String),
}

/// A filter of keys, with a sort order. The default is all keys, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyQuery {
    /// The order.
    pub order: KeyOrder,
    /// Only keys that have this status now.
    pub status: Option<KeyStatus>,
    /// Only keys in this environment.
    pub environment: Option<Environment>,
    /// Only keys with this scope.
    pub scope: Option<Scope>,
    /// Only keys whose rotation is due if true, only other keys if false.
    pub rotation_due: Option<bool>,
    /// Only keys without an allowed call at or after this instant.
    pub unused_since: Option<UnixMillis>,
    /// Only keys that are accepted now and expire before this instant.
    pub expires_before: Option<UnixMillis>,
    /// Only keys that contain this text in name or description, ignoring ASCII case, or have a version with this hint.
    pub text: Option<String>,
}

// === impl KeyReference ===

impl From<&str> for KeyReference {
    fn from(text: &str) -> Self {
        Uuid::parse_str(text).map_or_else(|_| Self::Name(text.to_owned()), Self::Id)
    }
}
