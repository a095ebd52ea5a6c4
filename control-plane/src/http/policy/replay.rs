//! `POST /v1/policy/replay`: what a draft would have allowed or refused of the calls that were recorded.
//!
//! Each call is decided twice, by the policy in force and by the draft, with the scopes that its key has now. Only what
//! a policy decides is decided anew: whether there was a key, whether it was valid and from where it came stays as it
//! was, and so does a limit that was used up.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use omniflow_policy::address::AllowlistView;
use omniflow_policy::authorize::{CredentialView, GatewaySettings, Request, authorize_named};
use omniflow_policy::limit::RateLimit;
use omniflow_policy::outcome::{Denial, Outcome};
use omniflow_policy::policy::Policy;
use serde::Deserialize;
use tokio::task::spawn_blocking;
use utoipa::IntoParams;
use uuid::Uuid;

use super::conflicts;
use super::document::Draft;
use super::evaluate::default_settings;
use crate::http::extract::StrictQuery;
use crate::http::problem::Problem;
use crate::http::query;
use crate::service::app::App;
use crate::storage::{AuditFilter, AuditPosition, KeyReference};
use omniflow_api_types::policy::{ObstacleJson, ReplayChange, ReplayCounts, ReplayJson, SetPolicy};
use omniflow_api_types::schema;
use omniflow_api_types::time::Time;
use omniflow_domain::audit::RecordedCall;
use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::policy::KeyGrant;

/// The most calls that are replayed, newest first.
const MAX_CALLS: usize = 1_000_000;
/// Calls that are read at once.
const CALLS_PER_READ: usize = 10_000;
/// The most groups of changed calls that are told of, those of most calls first.
const MAX_CHANGES: usize = 100;
/// The most groups that are counted. Callers choose methods and paths, so there may be as many as calls.
const MAX_GROUPS: usize = 10_000;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct ReplayQuery {
    /// Calls of this key only, by identifier or by its name at the time of the call.
    key: Option<String>,
    /// Calls that began at this time or later.
    #[param(value_type = Option<schema::Instant>)]
    from: Option<String>,
    /// Calls that began before this time.
    #[param(value_type = Option<schema::Instant>)]
    to: Option<String>,
}

/// A replay under way.
struct Replay {
    current: Arc<Policy>,
    draft: Policy,
    settings: GatewaySettings,
    /// What each key may do; `None` for one that there is no more.
    grants: HashMap<Uuid, Option<KeyGrant>>,
    counts: ReplayCounts,
    groups: HashMap<Group, GroupTotals>,
    /// Whether there were more groups than are counted.
    more_groups: bool,
    keys_newly_refused: HashSet<Uuid>,
    keys_newly_allowed: HashSet<Uuid>,
}

/// Why a call is not decided anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unaffected {
    /// No policy would change anything.
    ByPolicy,
    /// Its record does not tell enough.
    Unknown,
}

/// Changed calls that are told of as one.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Group {
    key: Uuid,
    method: String,
    endpoint: Option<String>,
    before: Outcome,
    after: Outcome,
}

/// How many calls a group has, and the newest of them.
struct GroupTotals {
    calls: u64,
    newest: i64,
    path: String,
}

/// Tells what a draft would have allowed or refused of the calls that were recorded.
#[utoipa::path(
    post,
    path = "/v1/policy/replay",
    operation_id = "replay_calls",
    tag = "policy",
    params(ReplayQuery),
    request_body(content((SetPolicy = "application/json"), (String = "application/toml"))),
    responses(
        (status = 200, body = ReplayJson, description = "How many calls of each kind, and which would change."),
    ),
)]
pub(in crate::http) async fn replay(
    State(app): State<Arc<App>>,
    StrictQuery(query): StrictQuery<ReplayQuery>,
    draft: Draft,
) -> Result<Json<ReplayJson>, Problem> {
    Ok(Json(rehearse(&app, query, draft).await?))
}

/// What a draft would have allowed or refused of the calls that were recorded.
pub(in crate::http) async fn rehearse(
    app: &App,
    query: ReplayQuery,
    draft: Draft,
) -> Result<ReplayJson, Error> {
    let (current, version) = app.publisher.publication.policy()?;
    let draft = draft.compile(current.key_prefix()).await?;
    let filter = AuditFilter {
        key: query::present(query.key).map(|key| KeyReference::from(key.as_str())),
        from: query::time("from", query.from)?,
        to: query::time("to", query.to)?,
        ..AuditFilter::default()
    };
    let blocked_by =
        conflicts::of_draft(app, &current, &draft).await?.into_iter().map(ObstacleJson::from).collect();
    // One at a time: each of them keeps a processor busy.
    let _turn = app.replaying.try_lock().map_err(|_| {
        Error::new(
            ErrorCode::Busy,
            "Another replay runs, and one at a time is enough for the processor. Try again.",
        )
    })?;
    let mut replay = Replay::new(current, draft);
    let mut position: Option<AuditPosition> = None;
    let mut complete = false;
    while !complete && replay.counts.calls < MAX_CALLS as u64 {
        let calls = app.storage.audit.recorded_calls(&filter, position, CALLS_PER_READ).await?;
        complete = calls.len() < CALLS_PER_READ;
        position = calls.last().map(|call| AuditPosition { time: call.time, id: call.id }).or(position);
        replay.load_grants(app, &calls).await?;
        // Matching thousands of paths takes milliseconds, which other callers need not wait for.
        replay = spawn_blocking(move || replay.decide_all(&calls)).await.map_err(|error| {
            tracing::error!(%error, "a replay did not end");
            Error::internal()
        })?;
    }
    let oldest = position.map(|position| Time(position.time));
    Ok(replay.into_json(version, oldest, complete, blocked_by))
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

    /// Reads what the keys of these calls may do, where that is not known yet.
    async fn load_grants(&mut self, app: &App, calls: &[RecordedCall]) -> Result<(), Error> {
        let mut unknown: Vec<Uuid> = calls.iter().filter_map(|call| call.key_id).collect();
        unknown.sort_unstable();
        unknown.dedup();
        unknown.retain(|id| !self.grants.contains_key(id));
        let grants = app.storage.main.key_grants(&unknown).await?;
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

    /// What becomes of a call under both policies, and the group of it if that is not the same.
    fn decide(&self, call: &RecordedCall) -> Result<(Outcome, Outcome, Option<Group>), Unaffected> {
        let limited = match call.outcome {
            Outcome::Allowed | Outcome::Denied(Denial::InsufficientScope | Denial::RouteNotMapped) => false,
            Outcome::Denied(Denial::RateLimited) => true,
            Outcome::PassedThrough | Outcome::Denied(_) => return Err(Unaffected::ByPolicy),
        };
        if !call.is_path_whole() {
            return Err(Unaffected::Unknown);
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

    /// The answer, with the largest groups first.
    fn into_json(
        self,
        policy: u64,
        oldest: Option<Time>,
        complete: bool,
        blocked_by: Vec<ObstacleJson>,
    ) -> ReplayJson {
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
            before: group.before.reason().into(),
            after: group.after.reason().into(),
            calls: found.calls,
            newest_record: found.newest.to_string(),
            newest_path: found.path,
        });
        let changes = changes.collect();
        ReplayJson { policy_version: policy, blocked_by, oldest, complete, counts, changes, more_changes }
    }
}

/// A credential of the key that no step before the route refuses.
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

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use omniflow_policy::audit::AuditRecord;
    use omniflow_policy::policy::PolicyDocument;
    use serde_json::{Value, json};

    use super::*;
    use crate::http::testing::{Plane, START, record};

    fn call(key: &Value, method: &str, path: &str, outcome: Outcome) -> AuditRecord {
        let id = key["key"]["id"].as_str().unwrap().parse().unwrap();
        let record = record(0, START, Some((id, key["key"]["name"].as_str().unwrap())));
        AuditRecord { method: method.to_owned(), path: path.to_owned(), outcome, ..record }
    }

    /// The policy of the demo where contacts are read with another scope, and agents written too.
    fn draft() -> Value {
        let mut document = serde_json::to_value(PolicyDocument::default()).unwrap();
        for route in document["routes"].as_array_mut().unwrap() {
            if route["scope"] == "contacts:read" {
                route["scope"] = json!("tickets:read");
            }
            if route["path"] == "/api/v1/agents" {
                route["methods"] = json!(["any"]);
            }
        }
        document
    }

    #[tokio::test]
    async fn every_call_is_counted_once_and_rightly() {
        let plane = Plane::new().await;
        let gateway = plane.token("gateway").await;
        let contacts = plane.key("contacts").await;
        let body = json!({"name": "agents", "environment": "live", "scopes": ["agents:read"]});
        let agents = plane.post("/v1/keys", body).await.expect(StatusCode::CREATED);
        let denied = Outcome::Denied;
        let mut records = vec![
            call(&contacts, "GET", "/api/v1/contacts", Outcome::Allowed),
            call(&contacts, "GET", "/api/v1/contacts/7", Outcome::Allowed),
            call(&contacts, "GET", "/api/v1/contacts/8", Outcome::Allowed),
            call(&contacts, "GET", "/api/v1/contacts/9", denied(Denial::RateLimited)),
            call(&contacts, "GET", "/api/v1/tickets", denied(Denial::InsufficientScope)),
            call(&agents, "GET", "/api/v1/agents", Outcome::Allowed),
            call(&agents, "POST", "/api/v1/agents", denied(Denial::RouteNotMapped)),
            call(&agents, "POST", "/api/v1/agents/7", denied(Denial::RouteNotMapped)),
            call(&agents, "GET", "/api//v1/agents", denied(Denial::AmbiguousPath)),
            call(&agents, "GET", "/api/v1/agents", denied(Denial::KeyRevoked)),
            call(&agents, "GET", "/api/v1/agents/omf_live_***", Outcome::Allowed),
            record(0, START, None),
        ];
        for (record, number) in records.iter_mut().zip(0..) {
            record.sequence = number;
        }
        plane.deliver(&gateway, records).await;
        let answer = plane.post("/v1/policy/replay", draft()).await.expect(StatusCode::OK);
        let counts = [
            ("calls", 12),
            ("still_allowed", 1),
            ("still_refused", 3),
            ("newly_refused", 3),
            ("newly_allowed", 1),
            ("unaffected", 3),
            ("not_replayable", 1),
            ("keys_newly_refused", 1),
            ("keys_newly_allowed", 1),
            ("policy_version", 1),
        ];
        for (name, expected) in counts {
            assert_eq!(answer[name], expected, "{name}: {answer}");
        }
        assert_eq!(
            (&answer["complete"], &answer["oldest"]),
            (&json!(true), &json!("2027-01-15T08:00:00.000Z"))
        );
        let told: Vec<_> = answer["changes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|change| {
                let field = |name: &str| change[name].as_str().unwrap_or("-").to_owned();
                (
                    field("key_name"),
                    field("method"),
                    field("endpoint"),
                    field("before"),
                    field("after"),
                    change["calls"].as_u64().unwrap(),
                )
            })
            .collect();
        let one = |key: &str, method: &str, endpoint: &str, before: &str, after: &str, calls: u64| {
            (
                key.to_owned(),
                method.to_owned(),
                endpoint.to_owned(),
                before.to_owned(),
                after.to_owned(),
                calls,
            )
        };
        assert_eq!(
            told,
            [
                one("contacts", "GET", "/api/v1/contacts/{id}", "allowed", "insufficient_scope", 2),
                one("agents", "POST", "/api/v1/agents", "route_not_mapped", "allowed", 1),
                one("contacts", "GET", "/api/v1/contacts/{id}", "rate_limited", "insufficient_scope", 1),
                one("contacts", "GET", "/api/v1/contacts", "allowed", "insufficient_scope", 1),
            ]
        );
        let newest = answer["changes"][0]["newest_record"].as_str().unwrap();
        let record = plane.get(&format!("/v1/audit/{newest}")).await.expect(StatusCode::OK);
        assert_eq!(record["path"], "/api/v1/contacts/8");
        assert_eq!(answer["changes"][0]["newest_path"], "/api/v1/contacts/8");

        let one = plane.post("/v1/policy/replay?key=agents", draft()).await.expect(StatusCode::OK);
        assert_eq!(
            (&one["calls"], &one["newly_allowed"], &one["newly_refused"]),
            (&json!(6), &json!(1), &json!(0))
        );
        let none =
            plane.post("/v1/policy/replay?to=2027-01-15T08:00:00Z", draft()).await.expect(StatusCode::OK);
        assert_eq!((&none["calls"], &none["oldest"]), (&json!(0), &Value::Null));
        // Whatever a policy says, a key that has been revoked since is refused.
        plane.post("/v1/keys/contacts/revoke", json!({})).await.expect(StatusCode::OK);
        let revoked = plane.post("/v1/policy/replay", draft()).await.expect(StatusCode::OK);
        assert_eq!((&revoked["newly_refused"], &revoked["unaffected"]), (&json!(0), &json!(8)));
        let same = serde_json::to_value(PolicyDocument::default()).unwrap();
        let same = plane.post("/v1/policy/replay", same).await.expect(StatusCode::OK);
        assert_eq!(same["changes"], json!([]), "the policy in force changes nothing");
        assert_eq!(plane.get("/v1/policy").await.expect(StatusCode::OK)["version"], 1);
    }

    #[tokio::test]
    async fn a_draft_that_takes_no_imported_keys_refuses_their_calls() {
        let plane = Plane::new().await;
        let gateway = plane.token("gateway").await;
        let document = |imported_keys: bool| {
            serde_json::to_value(PolicyDocument { imported_keys, ..PolicyDocument::default() }).unwrap()
        };
        plane.put("/v1/policy", document(true)).await.expect(StatusCode::OK);
        let body = json!({"name": "moved", "environment": "live", "scopes": ["contacts:read"], "digest": "0".repeat(64)});
        let moved = plane.post("/v1/keys", body).await.expect(StatusCode::CREATED);
        plane.deliver(&gateway, vec![call(&moved, "GET", "/api/v1/contacts", Outcome::Allowed)]).await;

        let answer = plane.post("/v1/policy/replay", document(false)).await.expect(StatusCode::OK);
        assert_eq!(
            (&answer["newly_refused"], &answer["changes"][0]["after"]),
            (&json!(1), &json!("malformed_key"))
        );
        assert_eq!(answer["blocked_by"][0]["code"], "imports_in_use");
        let diff = plane.post("/v1/policy/diff", document(false)).await.expect(StatusCode::OK);
        assert_eq!(diff["blocked_by"], answer["blocked_by"]);
        let evaluate =
            json!({"key": "moved", "method": "GET", "path": "/api/v1/contacts", "policy": document(false)});
        let evaluation = plane.post("/v1/policy/evaluate", evaluate).await.expect(StatusCode::OK);
        assert_eq!(
            (&evaluation["reason"], &evaluation["steps"][0]["verdict"]),
            (&json!("malformed_key"), &json!("refused"))
        );
        assert!(evaluation["steps"][0]["detail"].as_str().unwrap().contains("imported_keys"), "{evaluation}");

        let set = plane.put("/v1/policy", document(false)).await;
        assert_eq!(set.problem().1, "imports_in_use");
        assert!(set.json()["detail"].as_str().unwrap().contains("other systems: moved."), "{set:?}");
        // A version of this installation in its place, and the imported one out of the way.
        plane.post("/v1/keys/moved/rotate", json!({})).await.expect(StatusCode::CREATED);
        assert_eq!(plane.put("/v1/policy", document(false)).await.problem().1, "imports_in_use");
        plane.post("/v1/keys/moved/versions/1/revoke", json!({})).await.expect(StatusCode::OK);
        plane.put("/v1/policy", document(false)).await.expect(StatusCode::OK);
    }
}
