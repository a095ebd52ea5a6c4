//! The changes to keys that a report makes. They are use cases of keys, which are still in `http`: everything that leaks
//! take from there is in this file.

use std::collections::BTreeSet;

use omniflow_domain::error::Error;
use omniflow_domain::event::Action;
use omniflow_domain::key::{Key, KeyVersion};
use omniflow_domain::principal::Principal;
use omniflow_policy::key::{Secret, compose_key};
use omniflow_policy::snapshot::Change;
use omniflow_policy::time::UnixMillis;

use super::Leaks;
use crate::http::keys::{create, revoke};
use crate::storage::Transaction;

/// Revokes the versions of a key that leaked, or all of them without `only`; returns the changes for gateways, none if
/// nothing was left to revoke.
pub(super) async fn revoke_leaked(
    transaction: &mut Transaction<'_>,
    principal: &Principal,
    key: &mut Key,
    only: Option<&BTreeSet<u16>>,
    now: UnixMillis,
) -> Result<Vec<Change>, Error> {
    let is_leaked = |version| only.is_none_or(|only| only.contains(&version));
    revoke::revoke_versions(transaction, principal, Action::KeyLeaked, key, is_leaked, now).await
}

/// Adds a replacement; returns the changes for gateways.
pub(super) async fn add_replacement(
    transaction: &mut Transaction<'_>,
    principal: &Principal,
    key: &Key,
) -> Result<Vec<Change>, Error> {
    create::add(transaction, principal, Action::KeyCreated, key).await
}

/// The first version of a replacement.
pub(super) fn first_version(secret: &Secret, now: UnixMillis) -> KeyVersion {
    create::first_version(secret.digest(), secret.hint(), now)
}

// === impl Leaks ===

impl Leaks {
    /// A secret in the form of this installation's, for a key like `leaked`.
    pub(super) fn new_secret(&self, leaked: &Key) -> Result<Secret, Error> {
        let prefix = &self.publisher.installation.key_prefix;
        Ok(self.entropy.compose(|mut random| compose_key(prefix, leaked.environment, &mut random))?)
    }
}
