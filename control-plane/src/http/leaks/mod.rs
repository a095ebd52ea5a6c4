//! `POST /v1/leaks`: secrets that were found where they must not be. What they open is revoked at once, and what was done
//! with them is told.
//!
//! The answer names keys, never what was sent. All keys of a report are one change, so that one version has it in force.

mod search;
#[cfg(test)]
mod tests;

use omniflow_domain::principal::Principal;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use omniflow_policy::key::Secret;
use omniflow_policy::scope::ScopeSet;
use omniflow_policy::snapshot::Change;
use omniflow_policy::time::UnixMillis;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use uuid::Uuid;

use self::search::{Found, Sought};
use super::access::{Authenticated, Endpoints, WRITE};
use super::extract::{FromBody, StrictQuery, check_media_type, parse};
use super::idempotency::{Created, IdempotentBody, note, repeated};
use super::params::IdempotencyKey;
use super::problem::Problem;
use super::query::WaitQuery;
use super::{enforcement, to_its_end};
use crate::service::app::App;
use crate::service::keys::{add, first_version, new_secret, revoke_versions};
use crate::storage::{Attempt, FindingFilter, KeyReference, StorageError, Transaction};
use omniflow_api_types::key::{CreatedKey, KeyJson, LastUsed};
use omniflow_api_types::leak::{KeyUseJson, LeakReport, LeakedKey, LeakedVersion, ReportLeak};
use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::event::Action;
use omniflow_domain::key::Key;
use omniflow_domain::key_use::{KeyUse, MAX_CALLS, period_start};
use omniflow_domain::name::{MAX_NAME_LENGTH, Name};

/// The most bytes of a report, as of a policy.
const BODY_LIMIT: usize = 1024 * 1024;
/// The highest number that a successor's name gets.
const MAX_SUCCESSORS: u32 = 1_000;
/// The most findings of a key that are told.
const MAX_FINDINGS: usize = 10;

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints.post_large("/v1/leaks", WRITE, BODY_LIMIT, report)
}

/// The body of a report.
pub(super) struct Report(ReportLeak);

/// What is done about what was found.
#[derive(Clone, Copy)]
struct Measures {
    revoke: bool,
    version_only: bool,
    replacement: bool,
}

/// A report that was acted upon.
pub(super) struct Done {
    /// What became of it.
    pub(super) report: LeakReport,
    ids: Vec<Uuid>,
    version: u64,
    /// When it was committed; `None` if nothing had to be.
    committed: Option<Instant>,
    attempt: Option<Attempt>,
    now: UnixMillis,
}

/// What came of a report.
pub(super) enum Outcome {
    /// The same report was acted upon before.
    Again(Created),
    /// It was acted upon now.
    Done(Box<Done>),
}

/// A key that leaked, before it is told of.
struct Leaked {
    key: Key,
    versions: Vec<LeakedVersion>,
    revoked: bool,
    replacement: Option<(Key, Secret)>,
}

/// Revokes what leaked, and tells how it was used.
///
/// Takes a secret, its digest, or a text in which secrets may stand. Every key that is found is revoked at once, unless
/// `revoke` is false. What was sent is nowhere kept and nowhere told.
#[utoipa::path(
    post,
    path = "/v1/leaks",
    operation_id = "report_leak",
    tag = "keys",
    params(WaitQuery, IdempotencyKey),
    request_body = ReportLeak,
    responses(
        (status = 200, body = LeakReport, description = "The keys that leaked."),
        (status = 409, description = "`name_taken`, `already_created`"),
    ),
)]
pub(super) async fn report(
    State(app): State<Arc<App>>,
    Authenticated(principal): Authenticated,
    StrictQuery(query): StrictQuery<WaitQuery>,
    IdempotentBody { body: Report(request), attempt }: IdempotentBody<Report>,
) -> Result<Response, Problem> {
    let wait = query.read()?;
    match respond(&app, principal, wait, request, attempt).await? {
        Outcome::Again(answer) => Ok(answer.into_response()),
        Outcome::Done(done) => done.answer(&app).map_err(Into::into),
    }
}

/// Acts upon a report, tells how the keys were used, and waits for the gateways if that is asked for.
pub(super) async fn respond(
    app: &Arc<App>,
    principal: Principal,
    wait: Option<Duration>,
    request: ReportLeak,
    attempt: Option<Attempt>,
) -> Result<Outcome, Error> {
    let ReportLeak { secret, digest, text, revoke, version_only, replacement } = request;
    let sought = Sought::read(secret, digest, text)?;
    let measures = Measures { revoke, version_only, replacement };
    let image = app.publisher.publication.image()?;
    let prefix = app.publisher.installation.key_prefix.clone();
    let found =
        spawn_blocking(move || sought.find(&image, &prefix)).await.map_err(|_| Error::internal())??;
    let mut done = match to_its_end(act(Arc::clone(app), principal, found, measures, attempt)).await? {
        again @ Outcome::Again(_) => return Ok(again),
        Outcome::Done(done) => done,
    };
    let uses = usages(app, &done.ids, done.now);
    let changes = (measures.revoke || measures.replacement) && !done.ids.is_empty();
    let in_force = enforcement(app, done.version, done.committed, wait.filter(|_| changes));
    let (uses, in_force) = tokio::join!(uses, in_force);
    for (key, usage) in done.report.keys.iter_mut().zip(uses) {
        key.usage = usage;
    }
    done.report.enforcement = in_force;
    Ok(Outcome::Done(done))
}

/// Revokes and replaces, all in one change.
async fn act(
    app: Arc<App>,
    principal: Principal,
    found: Found,
    measures: Measures,
    attempt: Option<Attempt>,
) -> Result<Outcome, Error> {
    let mut writer = app.storage.main.writer().await;
    let now = app.now();
    let mut transaction = writer.begin().await?;
    if let Some(answer) = repeated(&app, &mut transaction, attempt.as_ref(), now).await? {
        return Ok(Outcome::Again(answer));
    }
    let ids: Vec<Uuid> = found.keys.keys().copied().collect();
    // Behind the commit nothing may fail any more: the secrets of successors would be lost.
    let last_used = app.storage.audit.last_used(&ids).await?;
    let (mut leaked, mut changes) = (Vec::new(), Vec::new());
    for (id, versions) in &found.keys {
        let (one, changed) =
            act_on(&app, &mut transaction, &principal, (*id, versions), measures, now).await?;
        leaked.push(one);
        changes.extend(changed);
    }
    let made: Vec<String> = leaked
        .iter()
        .filter_map(|one| one.replacement.as_ref().map(|(key, _)| format!("/v1/keys/{}", key.id)))
        .collect();
    // Without a successor it may well be done again.
    let attempt = attempt.filter(|_| !made.is_empty());
    note(&mut transaction, attempt.as_ref(), &made.join(" and "), now).await?;
    let (version, committed) = match changes.is_empty() {
        true => (app.publisher.publication.version()?, None),
        false => (app.publisher.commit(transaction, changes).await?, Some(Instant::now())),
    };
    for one in leaked.iter().filter(|one| one.revoked) {
        tracing::info!(key = %one.key.id, name = one.key.name.as_str(), by = principal.name.as_str(), version, "a leaked key was revoked");
    }
    let keys = leaked.into_iter().map(|one| one.told(&app, &last_used, now)).collect();
    let report = LeakReport { keys, unknown: found.unknown, malformed: found.malformed, enforcement: None };
    let done = Done { report, ids, version, committed, attempt, now };
    // For whoever repeats the call while this one still waits.
    done.keep(&app)?;
    Ok(Outcome::Done(Box::new(done)))
}

/// Revokes and replaces one key, of which these versions leaked; gives what that changes for gateways.
async fn act_on(
    app: &App,
    transaction: &mut Transaction<'_>,
    principal: &Principal,
    (id, versions): (Uuid, &BTreeSet<u16>),
    measures: Measures,
    now: UnixMillis,
) -> Result<(Leaked, Vec<Change>), Error> {
    let before = transaction.key(&KeyReference::Id(id)).await?.ok_or_else(Error::internal)?;
    let mut key = before.clone();
    let mut changes = Vec::new();
    if measures.revoke {
        let is_meant = |version| !measures.version_only || versions.contains(&version);
        changes = revoke_versions(transaction, principal, Action::KeyLeaked, &mut key, is_meant, now).await?;
    }
    let revoked = !changes.is_empty();
    let mut replacement = None;
    if measures.replacement
        && let Some((next, secret)) = successor(app, transaction, principal, &before, now).await?
    {
        changes.extend(add(transaction, principal, Action::KeyCreated, &next).await?);
        replacement = Some((next, secret));
    }
    let versions = before
        .versions
        .iter()
        .filter(|version| versions.contains(&version.version))
        .map(|version| LeakedVersion { id: version.version, was: before.version_status(version, now) })
        .collect();
    Ok((Leaked { key, versions, revoked, replacement }, changes))
}

/// A key with the settings of one that leaked, under the next free name. `None` for one that has expired: it is not for
/// whoever finds a secret to prolong it.
async fn successor(
    app: &App,
    transaction: &mut Transaction<'_>,
    principal: &Principal,
    leaked: &Key,
    now: UnixMillis,
) -> Result<Option<(Key, Secret)>, Error> {
    if leaked.expires_at.is_some_and(|end| end <= now) {
        return Ok(None);
    }
    let (policy, _) = app.publisher.publication.policy()?;
    let secret = new_secret(&app.publisher, &app.entropy, leaked.environment)?;
    // A key that was revoked long ago may have scopes that the policy lacks by now.
    let scopes = leaked.scopes.iter().filter(|scope| policy.defines(scope)).cloned();
    let key = Key {
        id: app.entropy.uuid(now)?,
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

/// `ci-2` for `ci`, `ci-3` for `ci-2`, or the next one that is free.
async fn next_name(transaction: &mut Transaction<'_>, name: &Name) -> Result<Name, Error> {
    let numbered = name.as_str().rsplit_once('-').and_then(|(stem, number)| {
        let is_number = !number.is_empty() && number.len() <= 3 && number.bytes().all(|b| b.is_ascii_digit());
        Some((stem, number.parse::<u32>().ok().filter(|_| is_number && !stem.is_empty())?))
    });
    let (stem, number) = numbered.unwrap_or((name.as_str(), 1));
    for next in number.saturating_add(1)..=MAX_SUCCESSORS {
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
            "All names for a successor of {name} are taken. Leave replacement out and issue a key yourself."
        ),
    ))
}

/// How keys were used. The revocation is done by now, so what cannot be read is left out and not refused.
async fn usages(app: &App, keys: &[Uuid], now: UnixMillis) -> Vec<Option<KeyUseJson>> {
    let mut uses = Vec::with_capacity(keys.len());
    for key in keys {
        uses.push(match usage(app, *key, MAX_CALLS, now).await {
            Ok(told) => Some(told),
            Err(error) => {
                tracing::error!(%error, %key, "the use of a leaked key cannot be told");
                None
            }
        });
    }
    uses
}

/// How a key was used in the last 30 days, by its newest `most` calls.
pub(super) async fn usage(
    app: &App,
    key: Uuid,
    most: u64,
    now: UnixMillis,
) -> Result<KeyUseJson, StorageError> {
    let (audit, from) = (&app.storage.audit, period_start(now));
    let groups = audit.call_groups(key, from, most).await?;
    let unusual = FindingFilter { key: Some(KeyReference::Id(key)), from: Some(from), ..Default::default() };
    let findings = audit.findings(&unusual, None, MAX_FINDINGS).await?;
    Ok(KeyUseJson::new(KeyUse::of(&groups, most, now), findings))
}

// === impl Report ===

impl FromBody for Report {
    /// What is wrong is told without what was sent, as no other body is: it may be the secret itself.
    fn from_body(headers: &HeaderMap, bytes: &[u8]) -> Result<Self, Error> {
        check_media_type(headers, "application/json")?;
        let detail = "The body is not a report: send an object with secret, digest or text, and perhaps revoke, \
                      version_only and replacement, each true or false.";
        parse(bytes).map(Self).map_err(|_| Error::invalid_json(None, detail))
    }
}

// === impl Leaked ===

impl Leaked {
    fn told(self, app: &App, last_used: &LastUsed, now: UnixMillis) -> LeakedKey {
        let replacement = self.replacement.map(|(key, secret)| CreatedKey {
            key: KeyJson::new(key, &LastUsed::new(), app.rotation_after, now),
            secret: Some(secret.expose().to_owned()),
        });
        LeakedKey {
            key: KeyJson::new(self.key, last_used, app.rotation_after, now),
            versions: self.versions,
            revoked: self.revoked,
            usage: None,
            replacement,
        }
    }
}

// === impl Done ===

impl Done {
    fn keep(&self, app: &App) -> Result<(), Error> {
        if self.attempt.is_some() {
            drop(Created::on_the_side(&self.report)?.kept(app, self.attempt, self.now));
        }
        Ok(())
    }

    fn answer(&self, app: &App) -> Result<Response, Error> {
        Ok(Created::on_the_side(&self.report)?.kept(app, self.attempt, self.now).into_response())
    }
}
