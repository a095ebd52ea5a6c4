//! Tokens, sessions, idempotency keys, the installation, the admin log.

use omniflow_domain::admin_event::Action;
use omniflow_domain::idempotency::{Created, CreatedKind};
use omniflow_domain::session::Session;
use omniflow_domain::token::Role;
use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;

use super::Backend;
use super::fixtures::*;
use crate::{IdempotentRequest, RecordedRequest, Store, StoreError};
use omniflow_domain::admin_event::AdminLogFilter;

/// A token round-trips with all of its fields.
pub async fn inserted_token_is_read_back(backend: &impl Backend) {
    let store = backend.open().await;
    let mut one = token(1);
    (one.role, one.expires_at) = (Role::Gateway, Some(at(DAY)));
    one.gateways = vec!["edge-1".parse().unwrap(), "eu/*".parse().unwrap()];
    insert_tokens(&*store, std::slice::from_ref(&one)).await;
    assert_eq!(store.token(one.id).await.unwrap(), Some(one.clone()));
    assert_eq!(store.token_by_digest(one.digest).await.unwrap(), Some(one));
    assert_eq!(store.token(id(2)).await.unwrap(), None);
    assert_eq!(store.token_by_digest(Digest::of(b"other")).await.unwrap(), None);
}

/// A token with a taken name is not inserted.
pub async fn taken_token_name_is_reported(backend: &impl Backend) {
    let store = backend.open().await;
    insert_tokens(&*store, &[token(1)]).await;
    let mut second = token(2);
    second.name = token(1).name;
    let mut transaction = store.begin().await.unwrap();
    assert!(!transaction.insert_token(&second).await.unwrap());
    assert!(transaction.insert_token(&token(3)).await.unwrap(), "the transaction is still usable");
    transaction.commit().await.unwrap();
    assert_eq!(store.tokens(None, 9).await.unwrap().len(), 2);
}

/// Tokens are listed newest first, in pages.
pub async fn tokens_are_paged(backend: &impl Backend) {
    let store = backend.open().await;
    insert_tokens(&*store, &[token(2), token(1), token(3)]).await;
    let ids = async |before, limit| {
        let tokens = store.tokens(before, limit).await.unwrap();
        tokens.iter().map(|token| token.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(None, 2).await, [id(3), id(2)]);
    assert_eq!(ids(Some(id(2)), 2).await, [id(1)]);
    assert!(ids(None, 0).await.is_empty());
}

/// A token is found by its digest from its commit until that of its deletion, also after it has expired.
pub async fn token_is_found_by_its_digest(backend: &impl Backend) {
    let store = backend.open().await;
    let mut expired = token(1);
    expired.expires_at = Some(at(0));
    let find = async |digest| store.token_by_digest(digest).await.unwrap();
    assert_eq!(find(expired.digest).await, None);
    let mut transaction = store.begin().await.unwrap();
    assert!(transaction.insert_token(&expired).await.unwrap());
    assert_eq!(find(expired.digest).await, None);
    transaction.commit().await.unwrap();
    assert_eq!(find(expired.digest).await, Some(expired.clone()));
    let mut transaction = store.begin().await.unwrap();
    transaction.delete_token(expired.id).await.unwrap();
    assert_eq!(find(expired.digest).await, Some(expired.clone()));
    transaction.commit().await.unwrap();
    assert_eq!(find(expired.digest).await, None);
}

/// A deleted token is gone, and its sessions with it.
pub async fn deleted_token_takes_its_sessions(backend: &impl Backend) {
    let store = backend.open().await;
    insert_tokens(&*store, &[token(1), token(2)]).await;
    let mut transaction = store.begin().await.unwrap();
    for one in [session(1, id(1), at(0)), session(2, id(2), at(0))] {
        assert!(transaction.insert_session(&one, 9).await.unwrap());
    }
    transaction.delete_token(id(1)).await.unwrap();
    assert_eq!(transaction.token(id(1)).await.unwrap(), None);
    transaction.commit().await.unwrap();
    assert!(store.session(session(1, id(1), at(0)).digest).await.unwrap().is_none());
    assert!(store.session(session(2, id(2), at(0)).digest).await.unwrap().is_some());
    assert!(store.token(id(1)).await.unwrap().is_none());
}

/// Only owners that do not expire before an instant count.
pub async fn lasting_owner_tokens_are_counted(backend: &impl Backend) {
    let store = backend.open().await;
    let owner = |n, expires_at| {
        let mut token = token(n);
        (token.role, token.expires_at) = (Role::Owner, expires_at);
        token
    };
    insert_tokens(&*store, &[owner(1, None), owner(2, Some(at(10))), token(3)]).await;
    let mut transaction = store.begin().await.unwrap();
    assert_eq!(transaction.owner_tokens_until(at(10)).await.unwrap(), 2);
    assert_eq!(transaction.owner_tokens_until(at(11)).await.unwrap(), 1);
    transaction.delete_token(id(1)).await.unwrap();
    assert_eq!(transaction.owner_tokens_until(at(11)).await.unwrap(), 0);
}

async fn with_sessions(store: &dyn Store, sessions: &[Session], most: usize) {
    insert_tokens(store, &[token(1), token(2)]).await;
    let mut transaction = store.begin().await.unwrap();
    for session in sessions {
        assert!(transaction.insert_session(session, most).await.unwrap());
    }
    transaction.commit().await.unwrap();
}

/// A session round-trips, and its last use is updated.
pub async fn session_is_read_and_seen(backend: &impl Backend) {
    let store = backend.open().await;
    let one = session(1, id(1), at(5));
    with_sessions(&*store, std::slice::from_ref(&one), 9).await;
    assert_eq!(store.session(one.digest).await.unwrap(), Some(one.clone()));
    let mut transaction = store.begin().await.unwrap();
    transaction.see_session(one.digest, at(9)).await.unwrap();
    transaction.commit().await.unwrap();
    let seen = Session { seen_at: at(9), ..one.clone() };
    assert_eq!(store.session(one.digest).await.unwrap(), Some(seen));
    assert_eq!(store.session(Digest::of(b"other")).await.unwrap(), None);
}

/// A session without its token is not inserted.
pub async fn session_needs_its_token(backend: &impl Backend) {
    let store = backend.open().await;
    let mut transaction = store.begin().await.unwrap();
    assert!(!transaction.insert_session(&session(1, id(1), at(0)), 9).await.unwrap());
    transaction.commit().await.unwrap();
    assert!(store.session(session(1, id(1), at(0)).digest).await.unwrap().is_none());
}

/// A token keeps its last used sessions.
pub async fn oldest_sessions_are_dropped(backend: &impl Backend) {
    let store = backend.open().await;
    let sessions = [session(1, id(1), at(3)), session(2, id(1), at(1)), session(3, id(1), at(2))];
    with_sessions(&*store, &sessions, 2).await;
    let mut kept = Vec::new();
    for one in &sessions {
        kept.push(store.session(one.digest).await.unwrap().is_some());
    }
    assert_eq!(kept, [true, false, true]);
}

/// Sessions are counted by token, without those that are over.
pub async fn sessions_are_counted(backend: &impl Backend) {
    let store = backend.open().await;
    let mut used = session(3, id(1), at(10));
    used.seen_at = at(99);
    let sessions = [session(1, id(1), at(10)), session(2, id(1), at(20)), used, session(4, id(2), at(99))];
    with_sessions(&*store, &sessions, 9).await;
    let count = async |created, seen| store.session_count(id(1), (at(created), at(seen))).await.unwrap();
    assert_eq!(count(0, 0).await, 3);
    assert_eq!(count(10, 10).await, 1);
    assert_eq!(count(0, 20).await, 1);
}

/// Sessions are deleted one by one, by token, and when they are over.
pub async fn sessions_are_deleted(backend: &impl Backend) {
    let store = backend.open().await;
    let mut used = session(3, id(2), at(10));
    used.seen_at = at(99);
    let sessions = [session(1, id(1), at(50)), session(2, id(1), at(50)), used, session(4, id(2), at(50))];
    with_sessions(&*store, &sessions, 9).await;
    let exists = async |n: usize| store.session(sessions[n].digest).await.unwrap().is_some();
    let mut transaction = store.begin().await.unwrap();
    transaction.purge_sessions((at(10), at(49))).await.unwrap();
    transaction.commit().await.unwrap();
    assert!(!exists(2).await && exists(3).await);
    let mut transaction = store.begin().await.unwrap();
    transaction.delete_session(sessions[0].digest).await.unwrap();
    transaction.commit().await.unwrap();
    assert!(!exists(0).await && exists(1).await);
    let mut transaction = store.begin().await.unwrap();
    assert_eq!(transaction.delete_sessions_of(id(1)).await.unwrap(), 1);
    assert_eq!(transaction.delete_sessions_of(id(1)).await.unwrap(), 0);
    transaction.commit().await.unwrap();
    assert!(!exists(1).await && exists(3).await);
    let mut transaction = store.begin().await.unwrap();
    transaction.purge_sessions((UnixMillis(u64::MAX), UnixMillis(u64::MAX))).await.unwrap();
    transaction.commit().await.unwrap();
    assert!(!exists(3).await);
}

fn attempt(token: u32, name: &str) -> IdempotentRequest {
    IdempotentRequest { token: id(token), key: Digest::of(name.as_bytes()), request: Digest::of(b"request") }
}

/// An attempt is found by token and idempotency key.
pub async fn idempotent_request_is_found_again(backend: &impl Backend) {
    let store = backend.open().await;
    let mut transaction = store.begin().await.unwrap();
    assert_eq!(transaction.recorded_request(&attempt(1, "a"), at(0)).await.unwrap(), None);
    let created = Created { kind: CreatedKind::Key, ids: vec![id(1), id(2)] };
    transaction.record_request(&attempt(1, "a"), &created, at(5), at(0)).await.unwrap();
    let done = RecordedRequest { request: Digest::of(b"request"), created };
    assert_eq!(transaction.recorded_request(&attempt(1, "a"), at(5)).await.unwrap(), Some(done.clone()));
    transaction.commit().await.unwrap();
    let mut transaction = store.begin().await.unwrap();
    let other = IdempotentRequest { request: Digest::of(b"other"), ..attempt(1, "a") };
    assert_eq!(
        transaction.recorded_request(&other, at(0)).await.unwrap(),
        Some(done),
        "whatever the request"
    );
    assert_eq!(transaction.recorded_request(&attempt(2, "a"), at(0)).await.unwrap(), None);
    assert_eq!(transaction.recorded_request(&attempt(1, "b"), at(0)).await.unwrap(), None);
}

/// Attempts are forgotten after their time.
pub async fn old_idempotent_requests_are_forgotten(backend: &impl Backend) {
    let store = backend.open().await;
    let mut transaction = store.begin().await.unwrap();
    transaction.record_request(&attempt(1, "a"), &Created::key(id(1)), at(5), at(0)).await.unwrap();
    assert_eq!(transaction.recorded_request(&attempt(1, "a"), at(6)).await.unwrap(), None);
    transaction.record_request(&attempt(1, "b"), &Created::key(id(2)), at(9), at(6)).await.unwrap();
    assert_eq!(transaction.recorded_request(&attempt(1, "a"), at(0)).await.unwrap(), None);
    // The same key may be used again.
    transaction.record_request(&attempt(1, "a"), &Created::key(id(3)), at(10), at(6)).await.unwrap();
    let done = transaction.recorded_request(&attempt(1, "a"), at(0)).await.unwrap().unwrap();
    assert_eq!(done.created, Created::key(id(3)));
}

/// One token cannot record an idempotency key twice.
pub async fn idempotent_request_is_recorded_once(backend: &impl Backend) {
    let store = backend.open().await;
    let mut transaction = store.begin().await.unwrap();
    transaction.record_request(&attempt(1, "a"), &Created::key(id(1)), at(5), at(0)).await.unwrap();
    assert!(transaction.record_request(&attempt(1, "a"), &Created::key(id(2)), at(5), at(0)).await.is_err());
}

/// There is no installation before the first start, and only one afterwards.
pub async fn installation_is_inserted_once(backend: &impl Backend) {
    let store = backend.open().await;
    assert_eq!(store.installation().await.unwrap(), None);
    let mut transaction = store.begin().await.unwrap();
    transaction.insert_installation(&installation()).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(store.installation().await.unwrap(), Some(installation()));
    let mut transaction = store.begin().await.unwrap();
    assert!(transaction.insert_installation(&installation()).await.is_err());
}

/// The snapshot version is set.
pub async fn snapshot_version_is_set(backend: &impl Backend) {
    let store = backend.open().await;
    let mut transaction = store.begin().await.unwrap();
    transaction.insert_installation(&installation()).await.unwrap();
    transaction.set_snapshot_version(START + 77, at(9)).await.unwrap();
    transaction.commit().await.unwrap();
    let stored = store.installation().await.unwrap().unwrap();
    assert_eq!((stored.snapshot_version, stored.published_at), (START + 77, at(9)));
}

/// An admin log entry round-trips with all of its fields.
pub async fn admin_event_is_read_back(backend: &impl Backend) {
    let store = backend.open().await;
    insert_tokens(&*store, &[token(1)]).await;
    let mut one = event(Some(id(1)), at(5), "ci");
    one.before = Some(serde_json::json!({"scopes": ["a", null, 1.5]}));
    let mut transaction = store.begin().await.unwrap();
    transaction.insert_admin_event(&one).await.unwrap();
    transaction.commit().await.unwrap();
    let found = store.admin_events(&AdminLogFilter::default(), None, 9).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].noted, one);
}

/// Changes by a token that was revoked or has expired are refused.
pub async fn invalid_principal_changes_nothing(backend: &impl Backend) {
    let store = backend.open().await;
    let mut expiring = token(1);
    expiring.expires_at = Some(at(10));
    insert_tokens(&*store, &[expiring]).await;
    let mut transaction = store.begin().await.unwrap();
    transaction.insert_admin_event(&event(Some(id(1)), at(9), "ci")).await.unwrap();
    for entry in [event(Some(id(1)), at(10), "ci"), event(Some(id(2)), at(9), "ci")] {
        let refused = transaction.insert_admin_event(&entry).await;
        assert!(matches!(refused, Err(StoreError::PrincipalInvalid)), "{refused:?}");
    }
    transaction.delete_token(id(1)).await.unwrap();
    let refused = transaction.insert_admin_event(&event(Some(id(1)), at(9), "ci")).await;
    assert!(matches!(refused, Err(StoreError::PrincipalInvalid)));
    // The control plane itself needs no token.
    transaction.insert_admin_event(&event(None, at(9), "ci")).await.unwrap();
}

/// Entries are listed newest first, in pages.
pub async fn admin_events_are_paged(backend: &impl Backend) {
    let store = backend.open().await;
    let mut transaction = store.begin().await.unwrap();
    for n in 0..5 {
        transaction.insert_admin_event(&event(None, at(n), &format!("key-{n}"))).await.unwrap();
    }
    transaction.commit().await.unwrap();
    let page =
        async |before, limit| store.admin_events(&AdminLogFilter::default(), before, limit).await.unwrap();
    let first = page(None, 3).await;
    let times: Vec<_> = first.iter().map(|entry| entry.noted.time).collect();
    assert_eq!(times, [at(4), at(3), at(2)]);
    let second = page(Some(first[2].id), 3).await;
    assert_eq!(second.iter().map(|entry| entry.noted.time).collect::<Vec<_>>(), [at(1), at(0)]);
}

/// Each condition of the filter.
pub async fn admin_events_are_filtered(backend: &impl Backend) {
    let store = backend.open().await;
    insert_tokens(&*store, &[token(1)]).await;
    let mut transaction = store.begin().await.unwrap();
    let mut policy = event(None, at(1), "policy");
    policy.action = Action::PolicySet;
    policy.subject.id = "2".to_owned();
    policy.principal.name = "first start".to_owned();
    for entry in [policy, event(Some(id(1)), at(2), "ci"), event(None, at(3), "cd")] {
        transaction.insert_admin_event(&entry).await.unwrap();
    }
    transaction.commit().await.unwrap();
    let all = AdminLogFilter::default;
    for (filter, expected) in [
        (AdminLogFilter { action: Some(Action::PolicySet), ..all() }, vec![1]),
        (AdminLogFilter { principal: Some("owner".to_owned()), ..all() }, vec![3, 2]),
        (AdminLogFilter { principal: Some(id(1).to_string()), ..all() }, vec![2]),
        (AdminLogFilter { subject: Some("2".to_owned()), ..all() }, vec![1]),
        (AdminLogFilter { subject: Some("cd".to_owned()), ..all() }, vec![3]),
        (AdminLogFilter { from: Some(at(2)), ..all() }, vec![3, 2]),
        (AdminLogFilter { to: Some(at(2)), ..all() }, vec![1]),
        (AdminLogFilter { subject: Some("cd".to_owned()), to: Some(at(3)), ..all() }, vec![]),
    ] {
        let found = store.admin_events(&filter, None, 9).await.unwrap();
        let times: Vec<_> = found.iter().map(|entry| entry.noted.time.0 - START).collect();
        assert_eq!(times, expected, "{filter:?}");
    }
}
