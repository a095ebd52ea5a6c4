//! Leaked secrets of keys.

use omniflow_policy::key::Secret;

use crate::gateway::Enforcement;
use crate::key::KeyStatus;
use crate::key_details::KeyDetails;
use crate::key_use::KeyUsage;

/// The result of a report of leaked secrets. It contains the secrets of replacements.
#[derive(Clone, Debug)]
pub struct LeakReport {
    /// The keys whose secrets leaked.
    pub keys: Vec<LeakedKey>,
    /// Distinct secrets that are well formed but belong to no key.
    pub unknown: usize,
    /// Distinct texts that resemble a secret but are malformed.
    pub malformed: usize,
    /// Whether everything that is encoded in the text was searched.
    pub is_complete: bool,
    /// The enforcement status of the change; `None` if the request did not wait for it.
    pub enforcement: Option<Enforcement>,
}

/// A key whose secret leaked.
#[derive(Clone, Debug)]
pub struct LeakedKey {
    /// The key after the report was handled.
    pub key: KeyDetails,
    /// The versions whose secrets leaked.
    pub versions: Vec<LeakedVersion>,
    /// Whether this report revoked the key or some of its versions.
    pub revoked: bool,
    /// How the key was used; `None` if the audit log cannot be read.
    pub usage: Option<KeyUsage>,
    /// The new key with the same settings; `None` if none was requested, or the leaked key has expired.
    pub replacement: Option<ReplacementKey>,
}

/// A version whose secret leaked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeakedVersion {
    /// Its number, from 1.
    pub version: u16,
    /// Its status before the report was handled.
    pub was: KeyStatus,
}

/// A key that replaces a leaked one.
#[derive(Clone, Debug)]
pub struct ReplacementKey {
    /// The key.
    pub key: KeyDetails,
    /// Its secret.
    pub secret: Secret,
}
