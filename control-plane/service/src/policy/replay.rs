//! Replays recorded calls: which of them a draft would have allowed or refused.
//!
//! Each call is decided twice, by the effective policy and by the draft, with the scopes that its key has now. Only the
//! policy's part of the decision is repeated: the presence and validity of the key, the client's address and an
//! exhausted limit stay as recorded.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use omniflow_domain::audit::RecordedCall;
use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::policy::{KeyGrant, ReplayChange, ReplayCounts, ReplayReport};
use omniflow_policy::address::AllowlistView;
use omniflow_policy::authorize::{CredentialView, GatewaySettings, Request, authorize_named};
use omniflow_policy::denial::{Denial, Outcome};
use omniflow_policy::limit::RateLimit;
use omniflow_policy::policy::Policy;
use omniflow_policy::time::UnixMillis;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::document::Draft;
use super::explain::default_settings;
use super::{Policies, conflicts};
use crate::publication::NumberedPolicy;
use omniflow_domain::audit_query::{AuditFilter, AuditPosition};
use omniflow_domain::key::KeyReference;
use omniflow_store::Store;

/// Maximum number of calls that are replayed, newest first.
const MAX_CALLS: usize = 1_000_000;
/// Number of calls that are read at a time.
const CALLS_PER_READ: usize = 10_000;
/// Maximum number of groups of changed calls in the result, sorted by number of calls.
const MAX_CHANGES: usize = 100;
/// Maximum number of groups that are counted. Clients choose methods and paths, so there may be as many groups as
/// calls.
const MAX_GROUPS: usize = 10_000;

/// A draft, and the recorded calls to replay with it.
pub struct ReplayCalls {
    /// The draft.
    pub draft: Draft,
    /// Calls of this key only, by identifier or by its name at the time of the call.
    pub key: Option<KeyReference>,
    /// Calls that began at or after this time.
    pub from: Option<UnixMillis>,
    /// Calls that began before this time.
    pub to: Option<UnixMillis>,
}

/// A running replay.
struct Replay {
    current: Arc<Policy>,
    draft: Policy,
    settings: GatewaySettings,
    /// The permissions of each key; `None` for a key that no longer exists.
    grants: HashMap<Uuid, Option<KeyGrant>>,
    counts: ReplayCounts,
    groups: HashMap<Group, GroupTotals>,
    /// Whether there were more groups than are counted.
    more_groups: bool,
    keys_newly_refused: HashSet<Uuid>,
    keys_newly_allowed: HashSet<Uuid>,
}

/// Why a call is not decided again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unaffected {
    /// No policy would change anything.
    ByPolicy,
    /// Its record has too little detail.
    Unknown,
}

/// Changed calls that are reported as one group.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Group {
    key: Uuid,
    method: String,
    endpoint: Option<String>,
    before: Outcome,
    after: Outcome,
}

/// The number of calls in a group, and the newest of them.
struct GroupTotals {
    calls: u64,
    newest: i64,
    path: String,
}

impl Policies {
    /// Replays recorded calls, newest first, with the effective policy and with a draft.
    ///
    /// Fails with `invalid_field` and with `busy` while another replay runs.
    pub async fn replay(&self, request: ReplayCalls) -> Result<ReplayReport, Error> {
        let NumberedPolicy { version, policy: current } = self.current()?;
        let draft = request.draft.compile(current.key_prefix()).await?;
        let filter =
            AuditFilter { key: request.key, from: request.from, to: request.to, ..AuditFilter::default() };
        let blocked_by = conflicts::of_draft(&*self.store, &current, &draft).await?;
        // One at a time, because each replay keeps a processor busy.
        let _turn = self.replaying.try_lock().map_err(|_| {
            Error::new(
                ErrorCode::Busy,
                "Another replay is running, and only one can run at a time. Try again later.",
            )
        })?;
        let mut replay = Replay::new(current, draft);
        let mut position: Option<AuditPosition> = None;
        let mut complete = false;
        while !complete && replay.counts.calls < MAX_CALLS as u64 {
            let calls = self.store.recorded_calls(&filter, position, CALLS_PER_READ).await?;
            complete = calls.len() < CALLS_PER_READ;
            position = calls.last().map(|call| AuditPosition { time: call.time, id: call.id }).or(position);
            replay.load_grants(&*self.store, &calls).await?;
            // Matching thousands of paths takes milliseconds, which other requests need not wait for.
            replay = spawn_blocking(move || replay.decide_all(&calls)).await.map_err(|error| {
                tracing::error!(%error, "replay aborted");
                Error::internal()
            })?;
        }
        let oldest = position.map(|position| position.time);
        Ok(replay.into_report(version, oldest, complete, blocked_by))
    }
}

// === impl Replay ===

impl Replay {
    fn new(current: Arc<Policy>, draft: Policy) -> Self {
        Self {
            current,
            draft,
            settings: default_settings(),
            grants: HashMap::new(),
            counts: ReplayCounts::default(),
            groups: HashMap::new(),
            more_groups: false,
            keys_newly_refused: HashSet::new(),
            keys_newly_allowed: HashSet::new(),
        }
    }

    /// Reads the grants of the keys of these calls that are not loaded yet.
    async fn load_grants(&mut self, store: &dyn Store, calls: &[RecordedCall]) -> Result<(), Error> {
        let mut unknown: Vec<Uuid> = calls.iter().filter_map(|call| call.key_id).collect();
        unknown.sort_unstable();
        unknown.dedup();
        unknown.retain(|id| !self.grants.contains_key(id));
        let grants = store.key_grants(&unknown).await?;
        self.grants.extend(unknown.into_iter().map(|id| (id, grants.get(&id).cloned())));
        Ok(())
    }

    fn decide_all(mut self, calls: &[RecordedCall]) -> Self {
        for call in calls {
            self.counts.calls += call.calls;
            match self.decide(call) {
                Ok((before, after, group)) => self.count(call, before, after, group),
                Err(Unaffected::ByPolicy) => self.counts.unaffected += call.calls,
                Err(Unaffected::Unknown) => self.counts.not_replayable += call.calls,
            }
        }
        self
    }

    /// The outcome of a call under both policies, and its group if the outcomes differ.
    fn decide(&self, call: &RecordedCall) -> Result<(Outcome, Outcome, Option<Group>), Unaffected> {
        let limited = match call.outcome {
            Outcome::Allowed | Outcome::Denied(Denial::InsufficientScope | Denial::RouteNotMapped) => false,
            Outcome::Denied(Denial::RateLimited) => true,
            Outcome::PassedThrough | Outcome::Denied(_) => return Err(Unaffected::ByPolicy),
        };
        if !call.is_path_whole() {
            return Err(Unaffected::Unknown);
        }
        if call.has_redacted_segments() {
            let endpoint = call.endpoint.as_deref();
            let policies = [&*self.current, &self.draft];
            if !policies.iter().all(|policy| policy.determines_route(endpoint, &call.path)) {
                return Err(Unaffected::Unknown);
            }
        }
        let key = call.key_id.ok_or(Unaffected::ByPolicy)?;
        let grant = self.grants.get(&key).and_then(Option::as_ref).ok_or(Unaffected::Unknown)?;
        if grant.revoked {
            return Err(Unaffected::ByPolicy);
        }
        let credential = credential(key, grant);
        let imported = grant.imported.contains(&call.version);
        let request = Request {
            method: call.method.as_bytes(),
            is_method_overridden: false,
            target: call.path.as_bytes(),
            source: None,
            now: call.time,
        };
        let decide = |policy| {
            let decision = authorize_named(policy, &self.settings, &request, credential, imported);
            let outcome = match decision.outcome {
                Outcome::Allowed if limited => Outcome::Denied(Denial::RateLimited),
                outcome => outcome,
            };
            (outcome, decision.route.map(|route| route.template))
        };
        let ((before, _), (after, endpoint)) = (decide(&self.current), decide(&self.draft));
        let group = (before != after).then(|| Group {
            key,
            method: call.method.clone(),
            endpoint: endpoint.map(str::to_owned).or_else(|| call.endpoint.clone()),
            before,
            after,
        });
        Ok((before, after, group))
    }

    fn count(&mut self, call: &RecordedCall, before: Outcome, after: Outcome, group: Option<Group>) {
        let counts = &mut self.counts;
        match (before, after) {
            (Outcome::Allowed, Outcome::Allowed) => counts.still_allowed += 1,
            (Outcome::Allowed, _) => counts.newly_refused += 1,
            (_, Outcome::Allowed) => counts.newly_allowed += 1,
            _ => counts.still_refused += 1,
        }
        let Some(group) = group else { return };
        if before == Outcome::Allowed {
            self.keys_newly_refused.insert(group.key);
        } else if after == Outcome::Allowed {
            self.keys_newly_allowed.insert(group.key);
        }
        if self.groups.len() >= MAX_GROUPS && !self.groups.contains_key(&group) {
            self.more_groups = true;
            return;
        }
        let totals = || GroupTotals { calls: 0, newest: call.id, path: call.path.clone() };
        self.groups.entry(group).or_insert_with(totals).calls += 1;
    }

    /// The report, with the largest groups first.
    fn into_report(
        self,
        policy_version: u64,
        oldest: Option<UnixMillis>,
        complete: bool,
        blocked_by: Vec<Error>,
    ) -> ReplayReport {
        let Self { grants, mut counts, groups, more_groups, .. } = self;
        counts.keys_newly_refused = self.keys_newly_refused.len();
        counts.keys_newly_allowed = self.keys_newly_allowed.len();
        let mut groups: Vec<(Group, GroupTotals)> = groups.into_iter().collect();
        groups.sort_unstable_by_key(|(_, found)| Reverse((found.calls, found.newest)));
        let more_changes = more_groups || groups.len() > MAX_CHANGES;
        groups.truncate(MAX_CHANGES);
        let name = |id: Uuid| grants.get(&id).and_then(Option::as_ref).map(|grant| grant.name.clone());
        let changes = groups.into_iter().map(|(group, found)| ReplayChange {
            key_id: group.key,
            key_name: name(group.key),
            method: group.method,
            endpoint: group.endpoint,
            before: group.before,
            after: group.after,
            calls: found.calls,
            newest_record: found.newest,
            newest_path: found.path,
        });
        let changes = changes.collect();
        ReplayReport { policy_version, blocked_by, oldest, complete, counts, changes, more_changes }
    }
}

/// A credential of the key that passes every step before the route.
fn credential(key: Uuid, grant: &KeyGrant) -> CredentialView<'_> {
    CredentialView {
        key_id: key,
        version: 1,
        name: &grant.name,
        environment: grant.environment,
        revoked: false,
        not_after: None,
        scopes: &grant.scopes,
        rate_limit: RateLimit::default(),
        allowlist: AllowlistView::default(),
    }
}
