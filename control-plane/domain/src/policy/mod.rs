//! Stored versions of the policy, the permissions of keys under them, and the changes that a draft would make.

mod comparison;
mod explanation;
mod replay;

use omniflow_policy::key::Environment;
use omniflow_policy::policy::PolicyDocument;
use omniflow_policy::scope::Scope;
use omniflow_policy::time::UnixMillis;

pub use self::comparison::PolicyComparison;
pub use self::explanation::{ExplainedKey, Explanation};
pub use self::replay::{ReplayChange, ReplayCounts, ReplayReport};

/// A version of the policy.
#[derive(Clone, Debug)]
pub struct StoredPolicy {
    /// Its number, from 1.
    pub version: u64,
    /// The document.
    pub document: PolicyDocument,
    /// The name of the token with which it was published.
    pub created_by: String,
    /// When it was published.
    pub created_at: UnixMillis,
}

/// A scope, and some of the keys that have it.
#[derive(Clone, Debug)]
pub struct ScopeHolders {
    /// The scope.
    pub scope: Scope,
    /// The keys.
    pub keys: NamedKeys,
}

/// A list of key names.
#[derive(Clone, Debug, Default)]
pub struct NamedKeys {
    /// The names, newest first.
    pub names: Vec<String>,
    /// Whether there are more of them.
    pub more: bool,
}

/// A version of the policy, without its document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyVersion {
    /// Its number, from 1.
    pub version: u64,
    /// The name of the token with which it was published.
    pub created_by: String,
    /// When it was published.
    pub created_at: UnixMillis,
}

/// The permissions of a key, apart from expiry and addresses.
#[derive(Clone, Debug)]
pub struct KeyGrant {
    /// The key's name.
    pub name: String,
    /// Its environment.
    pub environment: Environment,
    /// Its scopes, joined by single spaces.
    pub scopes: String,
    /// Whether all its versions were revoked.
    pub revoked: bool,
    /// Its versions that were imported from another system.
    pub imported: Vec<u16>,
}

// === impl NamedKeys ===

impl NamedKeys {
    /// Adds a name, or records that there are more than `limit`.
    pub fn add(&mut self, name: String, limit: usize) {
        if self.names.len() < limit {
            self.names.push(name);
        } else {
            self.more = true;
        }
    }
}
