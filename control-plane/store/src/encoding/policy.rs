//! Versions of the policy document, and what keys hold.

use std::collections::HashMap;

use omniflow_domain::policy::{KeyGrant, NamedKeys, PolicyVersion, ScopeHolders, StoredPolicy};
use omniflow_policy::scope::Scope;
use uuid::Uuid;

use super::{Columns, from_json, parsed};
use crate::error::Result;

/// The keys that hold some scopes, collected from keys in the order of age, newest first.
#[derive(Debug)]
pub struct HolderSearch<'s> {
    scopes: &'s [Scope],
    /// How many names are collected for each scope.
    limit: usize,
    held: HashMap<&'s str, NamedKeys>,
    before: Uuid,
}

/// A policy. Columns: version, document, `created_by`, `created_at`.
pub fn stored_policy<B>(row: &impl Columns<B>) -> Result<StoredPolicy> {
    Ok(StoredPolicy {
        version: row.column(0)?,
        document: from_json(row.column(1)?, "a policy")?,
        created_by: row.column(2)?,
        created_at: row.column(3)?,
    })
}

/// A version without its document. Columns: version, `created_by`, `created_at`.
pub fn policy_version<B>(row: &impl Columns<B>) -> Result<PolicyVersion> {
    Ok(PolicyVersion { version: row.column(0)?, created_by: row.column(1)?, created_at: row.column(2)? })
}

/// Adds a version of a key to what the keys are granted. Columns: id, name, environment and scopes of the key, number of the
/// version, whether it is imported, whether it is revoked.
pub fn add_grant<B>(grants: &mut HashMap<Uuid, KeyGrant>, row: &impl Columns<B>) -> Result<()> {
    let environment = parsed(row.column(2)?, "an environment")?;
    let grant = grants.entry(row.column(0)?).or_insert(KeyGrant {
        name: row.column(1)?,
        environment,
        scopes: row.column(3)?,
        revoked: true,
        imported: Vec::new(),
    });
    grant.revoked &= row.column::<bool>(6)?;
    if row.column(5)? {
        grant.imported.push(row.column(4)?);
    }
    Ok(())
}

/// Up to `limit` names of keys, and whether there are more. Columns: id, name.
pub fn named_keys<B, R: Columns<B>>(rows: &[R], limit: usize) -> Result<NamedKeys> {
    let mut keys = NamedKeys::default();
    for row in rows {
        keys.add(row.column(1)?, limit);
    }
    Ok(keys)
}

// === impl HolderSearch ===

impl<'s> HolderSearch<'s> {
    /// Begins with the newest key.
    pub fn new(scopes: &'s [Scope], limit: usize) -> Self {
        let held = scopes.iter().map(|scope| (scope.as_str(), NamedKeys::default())).collect();
        Self { scopes, limit, held, before: Uuid::max() }
    }

    /// The identifier below which keys are read next; `None` if the names that were found are enough.
    pub fn before(&self) -> Option<Uuid> {
        self.held.values().any(|keys| !keys.more).then_some(self.before)
    }

    /// Adds the next keys. Columns: id, name, scopes. No rows end the search.
    pub fn add<B, R: Columns<B>>(&mut self, rows: &[R]) -> Result<()> {
        for row in rows {
            for scope in row.column::<&str>(2)?.split(' ') {
                if let Some(keys) = self.held.get_mut(scope) {
                    keys.add(row.column(1)?, self.limit);
                }
            }
        }
        if let Some(oldest) = rows.last() {
            self.before = oldest.column(0)?;
        }
        Ok(())
    }

    /// The scopes that keys hold, in the order in which they were searched.
    pub fn holders(mut self) -> Vec<ScopeHolders> {
        let held = self.scopes.iter().filter_map(|scope| Some((scope, self.held.remove(scope.as_str())?)));
        held.filter(|(_, keys)| !keys.names.is_empty())
            .map(|(scope, keys)| ScopeHolders { scope: scope.clone(), keys })
            .collect()
    }
}
