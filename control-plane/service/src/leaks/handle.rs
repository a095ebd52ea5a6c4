//! Handles a report of leaked secrets: its keys are revoked and replaced in one change, so that one version contains
//! all of it.
//!
//! The report names keys, never what was sent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use omniflow_domain::admin_event::Action;
use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::idempotency::{Created, CreatedKind};
use omniflow_domain::key::Key;
use omniflow_domain::key_details::{KeyDetails, LastUsed};
use omniflow_domain::leak::{LeakReport, LeakedKey, LeakedVersion, ReplacementKey};
use omniflow_domain::name::{MAX_NAME_LENGTH, Name};
use omniflow_domain::principal::Principal;
use omniflow_policy::key::Secret;
use omniflow_policy::scope::ScopeSet;
use omniflow_policy::snapshot::Change;
use omniflow_policy::time::UnixMillis;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use uuid::Uuid;

use super::Leaks;
use super::search::{Found, SearchTerms};
use crate::idempotency::{Idempotent, Replayable, record};
use crate::keys::{add, first_version, new_secret, revoke_versions};
use crate::run_to_completion;
use omniflow_domain::key::KeyReference;
use omniflow_store::{IdempotentRequest, Transaction};

/// The highest number in the name of a replacement.
const MAX_REPLACEMENTS: u32 = 1_000;

/// A report of leaked secrets. It contains secrets, so it does not implement `Debug`.
pub struct ReportLeak {
    /// Where to search for secrets.
    pub terms: SearchTerms,
    /// What to do with the keys that are found.
    pub measures: Measures,
    /// How long to wait for gateways to enforce the change; `None` to return immediately.
    pub wait: Option<Duration>,
    /// The name of this attempt; `None` if it has none.
    pub attempt: Option<IdempotentRequest>,
}

/// The actions for leaked keys.
#[derive(Clone, Copy, Debug)]
pub struct Measures {
    /// Whether to revoke them.
    pub revoke: bool,
    /// Whether to revoke only the versions that leaked, not the whole keys.
    pub version_only: bool,
    /// Whether to create a key with the same settings for each.
    pub replacement: bool,
}

/// The outcome of a report in the database.
enum Progress {
    /// An earlier attempt had this result.
    Replayed(Idempotent<LeakReport>),
    /// The report is handled.
    Handled(Handled),
}

/// A handled report whose usage and enforcement are still missing.
struct Handled {
    report: LeakReport,
    ids: Vec<Uuid>,
    version: u64,
    /// When it was committed; `None` if nothing was changed.
    committed: Option<Instant>,
    attempt: Option<IdempotentRequest>,
    now: UnixMillis,
}

/// A key that leaked, after its changes.
struct ChangedKey {
    key: Key,
    versions: Vec<LeakedVersion>,
    revoked: bool,
    replacement: Option<(Key, Secret)>,
}

// === impl Leaks ===

impl Leaks {
    /// Revokes and replaces the keys whose secrets leaked, and reports how they were used.
    ///
    /// Fails with `invalid_field` if the text has too many keys,
    /// with `name_taken` if no name is left for a replacement, and with the errors of repeated attempts.
    pub async fn handle(
        self: &Arc<Self>,
        principal: &Principal,
        request: ReportLeak,
    ) -> Result<Idempotent<LeakReport>, Error> {
        let ReportLeak { terms, measures, wait, attempt } = request;
        let image = self.parts.publisher.publication.image()?;
        let prefix = self.parts.publisher.installation.key_prefix.clone();
        let found =
            spawn_blocking(move || terms.find(&image, &prefix)).await.map_err(|_| Error::internal())??;
        let (leaks, principal) = (Arc::clone(self), principal.clone());
        let change = async move { leaks.act(&principal, found, measures, attempt).await };
        let handled = match run_to_completion(change).await? {
            Progress::Replayed(earlier) => return Ok(earlier),
            Progress::Handled(handled) => handled,
        };
        let Handled { mut report, ids, version, committed, attempt, now } = handled;
        let usages = self.usages(&ids, now);
        let changes = (measures.revoke || measures.replacement) && !ids.is_empty();
        let (publication, wait) = (&self.parts.publisher.publication, wait.filter(|_| changes));
        let enforcement = self.parts.fleet.enforcement_after(
            version,
            publication,
            &self.parts.notifications,
            committed,
            wait,
        );
        let (usages, enforcement) = tokio::join!(usages, enforcement);
        for (key, usage) in report.keys.iter_mut().zip(usages) {
            key.usage = usage;
        }
        report.enforcement = enforcement;
        Ok(self.parts.idempotency.keep(attempt, report, now))
    }

    /// Revokes and replaces, all in one change.
    async fn act(
        &self,
        principal: &Principal,
        found: Found,
        measures: Measures,
        attempt: Option<IdempotentRequest>,
    ) -> Result<Progress, Error> {
        let ids: Vec<Uuid> = found.keys.keys().copied().collect();
        // Before the publisher's turn: a long read of the request log must not delay changes. If the log cannot be read,
        // the keys are revoked nevertheless.
        let last_used = self.parts.store.last_used(&ids).await.unwrap_or_else(|error| {
            tracing::error!(%error, "last use of leaked keys unavailable");
            LastUsed::new()
        });
        let _turn = self.parts.publisher.turn().await;
        let now = self.parts.clock.now();
        let mut transaction = self.parts.store.begin().await?;
        if let Some(earlier) =
            self.parts.idempotency.replayed(&mut *transaction, attempt.as_ref(), now).await?
        {
            return Ok(Progress::Replayed(earlier));
        }
        let (mut leaked, mut changes) = (Vec::new(), Vec::new());
        for (id, versions) in &found.keys {
            let (one, changed) =
                self.act_on(&mut *transaction, principal, (*id, versions), measures, now).await?;
            leaked.push(one);
            changes.extend(changed);
        }
        let replacements = leaked.iter().filter_map(|one| one.replacement.as_ref());
        let created = Created { kind: CreatedKind::Key, ids: replacements.map(|(key, _)| key.id).collect() };
        // An attempt that creates nothing may be repeated.
        let attempt = attempt.filter(|_| !created.ids.is_empty());
        record(&mut *transaction, attempt.as_ref(), &created, now).await?;
        let (version, committed) = match changes.is_empty() {
            true => (self.parts.publisher.publication.version()?, None),
            false => (self.parts.publisher.commit(transaction, changes).await?, Some(Instant::now())),
        };
        for one in leaked.iter().filter(|one| one.revoked) {
            tracing::info!(key = %one.key.id, name = one.key.name.as_str(), by = principal.name.as_str(), version, "leaked key revoked");
        }
        let keys = leaked.into_iter().map(|one| self.leaked_key(one, &last_used, now)).collect();
        let Found { unknown, malformed, is_complete, .. } = found;
        let report = LeakReport { keys, unknown, malformed, is_complete, enforcement: None };
        // Caches the result for a repeated attempt while this one is still waiting.
        self.parts.idempotency.keep(attempt, report.clone(), now);
        Ok(Progress::Handled(Handled { report, ids, version, committed, attempt, now }))
    }

    /// Revokes and replaces one key, of which these versions leaked; returns the changes for gateways.
    async fn act_on(
        &self,
        transaction: &mut dyn Transaction,
        principal: &Principal,
        (id, versions): (Uuid, &BTreeSet<u16>),
        measures: Measures,
        now: UnixMillis,
    ) -> Result<(ChangedKey, Vec<Change>), Error> {
        let before = transaction.key(&KeyReference::Id(id)).await?.ok_or_else(Error::internal)?;
        let mut key = before.clone();
        let mut changes = Vec::new();
        if measures.revoke {
            let selected = |version| !measures.version_only || versions.contains(&version);
            let action = Action::KeyLeaked;
            changes = revoke_versions(transaction, principal, action, &mut key, selected, now).await?;
        }
        let revoked = !changes.is_empty();
        let mut replacement = None;
        if measures.replacement
            && let Some((next, secret)) = self.replacement(transaction, principal, &before, now).await?
        {
            changes.extend(add(transaction, principal, Action::KeyCreated, &next).await?);
            replacement = Some((next, secret));
        }
        let versions = before
            .versions
            .iter()
            .filter(|version| versions.contains(&version.version))
            .map(|version| LeakedVersion {
                version: version.version,
                was: before.version_status(version, now),
            })
            .collect();
        Ok((ChangedKey { key, versions, revoked, replacement }, changes))
    }

    /// A key with the settings of one that leaked, under the next free name. `None` for a key that has expired: a report
    /// must not prolong it.
    async fn replacement(
        &self,
        transaction: &mut dyn Transaction,
        principal: &Principal,
        leaked: &Key,
        now: UnixMillis,
    ) -> Result<Option<(Key, Secret)>, Error> {
        if leaked.expires_at.is_some_and(|end| end <= now) {
            return Ok(None);
        }
        let (policy, _) = self.parts.publisher.publication.policy()?;
        let secret = new_secret(&self.parts.publisher, &self.parts.entropy, leaked.environment)?;
        // A key that was revoked long ago may have scopes that the policy no longer defines.
        let scopes = leaked.scopes.iter().filter(|scope| policy.defines(scope)).cloned();
        let key = Key {
            id: self.parts.entropy.uuid(now)?,
            name: next_name(transaction, &leaked.name).await?,
            scopes: ScopeSet::new(scopes).map_err(|_| Error::internal())?,
            created_by: principal.name.to_string(),
            created_at: now,
            revision: 1,
            versions: vec![first_version(secret.digest(), secret.hint(), now)],
            ..leaked.clone()
        };
        Ok(Some((key, secret)))
    }

    fn leaked_key(&self, changed: ChangedKey, last_used: &LastUsed, now: UnixMillis) -> LeakedKey {
        let ChangedKey { key, versions, revoked, replacement } = changed;
        let replacement = replacement.map(|(key, secret)| ReplacementKey {
            key: KeyDetails::new(key, &LastUsed::new(), self.parts.rotation_after, now),
            secret,
        });
        let key = KeyDetails::new(key, last_used, self.parts.rotation_after, now);
        LeakedKey { key, versions, revoked, usage: None, replacement }
    }
}

/// `ci-2` for `ci`, `ci-3` for `ci-2`, or the next one that is free.
async fn next_name(transaction: &mut dyn Transaction, name: &Name) -> Result<Name, Error> {
    let numbered = name.as_str().rsplit_once('-').and_then(|(stem, number)| {
        let is_number = !number.is_empty() && number.len() <= 3 && number.bytes().all(|b| b.is_ascii_digit());
        Some((stem, number.parse::<u32>().ok().filter(|_| is_number && !stem.is_empty())?))
    });
    let (stem, number) = numbered.unwrap_or((name.as_str(), 1));
    for next in number.saturating_add(1)..=MAX_REPLACEMENTS {
        let end = format!("-{next}");
        let stem = stem.get(..stem.len().min(MAX_NAME_LENGTH - end.len())).unwrap_or(stem);
        let candidate: Name = format!("{stem}{end}").parse().map_err(|_| Error::internal())?;
        if !transaction.key_name_is_taken(&candidate).await? {
            return Ok(candidate);
        }
    }
    Err(Error::new(
        ErrorCode::NameTaken,
        format!(
            "All names for a replacement of {name} are taken. Omit replacement, and create a key yourself."
        ),
    ))
}

// === impl LeakReport ===

impl Replayable for LeakReport {
    fn retained_bytes(&self) -> usize {
        /// A key with its versions and its secret, and an entry in the lists of its use.
        const KEY_BYTES: usize = 1_024;
        const USE_BYTES: usize = 128;
        let uses = |key: &LeakedKey| {
            let lists = |usage: &omniflow_domain::key_use::KeyUsage| {
                usage.calls.endpoints.len() + usage.calls.addresses.len() + 4 * usage.anomalies.len()
            };
            key.usage.as_ref().map_or(0, lists)
        };
        self.keys.iter().map(|key| 2 * KEY_BYTES + USE_BYTES * uses(key)).sum()
    }
}
