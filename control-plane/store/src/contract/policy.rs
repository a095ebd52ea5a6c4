//! Policy versions, and the keys that depend on them.

use omniflow_domain::policy::PolicyVersion;
use omniflow_policy::key::Environment;

use super::Backend;
use super::fixtures::*;

/// The version with the highest number is effective.
pub async fn newest_policy_is_effective(backend: &impl Backend) {
    let store = backend.open().await;
    insert_policies(&*store, &[1, 2]).await;
    assert_eq!(store.policy().await.unwrap().version, 2);
    let read = store.policy_version(1).await.unwrap().unwrap();
    assert_eq!((read.version, read.created_by, read.created_at), (1, "owner".to_owned(), at(1)));
    assert_eq!(read.document.to_json(), policy(1).document.to_json());
    assert!(store.policy_version(3).await.unwrap().is_none());
    assert!(store.policy_version(u64::MAX).await.unwrap().is_none());
}

/// Without a version there is no effective policy.
pub async fn store_without_a_policy_fails(backend: &impl Backend) {
    let store = backend.open().await;
    assert!(store.policy().await.is_err());
}

/// A version's number is used once.
pub async fn policy_version_is_inserted_once(backend: &impl Backend) {
    let store = backend.open().await;
    insert_policies(&*store, &[1]).await;
    let mut transaction = store.begin().await.unwrap();
    assert!(transaction.insert_policy(&policy(1)).await.is_err());
}

/// Versions are listed newest first, in pages.
pub async fn policy_versions_are_paged(backend: &impl Backend) {
    let store = backend.open().await;
    insert_policies(&*store, &[1, 2, 3]).await;
    let first = store.policy_versions(None, 2).await.unwrap();
    let expected =
        |version| PolicyVersion { version, created_by: "owner".to_owned(), created_at: at(version) };
    assert_eq!(first, [expected(3), expected(2)]);
    assert_eq!(store.policy_versions(Some(2), 2).await.unwrap(), [expected(1)]);
    assert_eq!(store.policy_versions(Some(1), 2).await.unwrap(), []);
}

/// The permissions of keys, with revoked and imported versions.
pub async fn grants_are_read_by_key(backend: &impl Backend) {
    let store = backend.open().await;
    let (mut one, mut two) = (key(1), key(2));
    one.environment = Environment::Test;
    one.versions.push(version(1, 2));
    one.versions[0].revoked_at = Some(at(1));
    one.versions[1].imported = true;
    two.versions[0].revoked_at = Some(at(1));
    insert_keys(&*store, &[one, two, key(3)]).await;
    let grants = store.key_grants(&[id(1), id(2), id(9)]).await.unwrap();
    assert_eq!(grants.len(), 2);
    let one = &grants[&id(1)];
    assert_eq!(
        (one.name.as_str(), one.environment, one.scopes.as_str()),
        ("key-1", Environment::Test, "contacts:read")
    );
    assert_eq!((one.revoked, one.imported.as_slice()), (false, [2].as_slice()));
    assert!(grants[&id(2)].revoked);
    assert!(store.key_grants(&[]).await.unwrap().is_empty());
}

/// Scopes are held by unrevoked keys; names are limited, newest first.
pub async fn scope_holders_are_named(backend: &impl Backend) {
    let store = backend.open().await;
    let mut keys: Vec<_> = (1..=5).map(key).collect();
    keys[4].versions[0].revoked_at = Some(at(1));
    keys[0].scopes = scopes("contacts:read tickets:read");
    insert_keys(&*store, &keys).await;
    let asked = [scope("tickets:read"), scope("contacts:read"), scope("unknown:read")];
    let mut transaction = store.begin().await.unwrap();
    let inside = transaction.scope_holders(&asked, 2).await.unwrap();
    drop(transaction);
    let outside = store.scope_holders(&asked, 2).await.unwrap();
    for found in [inside, outside] {
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].scope.as_str(), found[0].keys.names.as_slice()),
            ("tickets:read", ["key-1".to_owned()].as_slice())
        );
        assert!(!found[0].keys.more);
        assert_eq!(found[1].keys.names, ["key-4", "key-3"]);
        assert!(found[1].keys.more);
    }
    assert!(store.scope_holders(&[], 2).await.unwrap().is_empty());
}

/// Imported keys are named while they have an unrevoked imported version.
pub async fn imported_keys_are_named(backend: &impl Backend) {
    let store = backend.open().await;
    let mut keys: Vec<_> = (1..=4).map(key).collect();
    for key in &mut keys[..3] {
        key.versions[0].imported = true;
    }
    keys[0].versions[0].revoked_at = Some(at(1));
    insert_keys(&*store, &keys).await;
    let found = store.imported_keys(1).await.unwrap();
    assert_eq!((found.names.as_slice(), found.more), (["key-3".to_owned()].as_slice(), true));
    let mut transaction = store.begin().await.unwrap();
    let found = transaction.imported_keys(2).await.unwrap();
    assert_eq!((found.names.len(), found.more), (2, false));
}
