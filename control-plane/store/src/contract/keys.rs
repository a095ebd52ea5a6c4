//! Keys: inserting, changing, lists.

use omniflow_domain::key::{KeyOrder, KeyStatus};
use omniflow_policy::digest::Digest;
use omniflow_policy::key::Environment;
use omniflow_policy::limit::RateLimit;
use omniflow_policy::snapshot::ImageBuilder;
use uuid::Uuid;

use super::Backend;
use super::fixtures::*;
use crate::{KeyFilter, RotationFilter, Store};
use omniflow_domain::key::KeyReference;

async fn names(store: &dyn Store, filter: &KeyFilter) -> Vec<String> {
    let keys = store.keys(filter, None, 100).await.unwrap();
    keys.iter().map(|key| key.name.to_string()).collect()
}

fn all() -> KeyFilter {
    KeyFilter::default()
}

/// A key round-trips with all of its fields.
pub async fn inserted_key_is_read_back(backend: &impl Backend) {
    let store = backend.open().await;
    let mut one = key(1);
    one.environment = Environment::Test;
    one.scopes = scopes("contacts:read tickets:write");
    one.rate_limit = RateLimit { per_minute: Some(7), per_hour: Some(70), burst: Some(3) };
    one.ip_allowlist = omniflow_policy::address::Allowlist::parse(["10.0.0.0/8", "2001:db8::/32"]).unwrap();
    one.description = Some("a description – with ümlauts".to_owned());
    one.expires_at = Some(at(DAY));
    one.revision = 9;
    one.versions.push(version(1, 2));
    one.versions[0].expires_at = Some(at(5));
    one.versions[0].revoked_at = Some(at(6));
    one.versions[1].imported = true;
    insert_keys(&*store, std::slice::from_ref(&one)).await;
    assert_eq!(store.key(&KeyReference::Id(one.id)).await.unwrap(), Some(one));
}

/// Identifier and name find the same key.
pub async fn key_is_found_by_id_and_by_name(backend: &impl Backend) {
    let store = backend.open().await;
    insert_keys(&*store, &[key(1), key(2)]).await;
    let by_name = store.key(&KeyReference::from("key-2")).await.unwrap().unwrap();
    let by_id = store.key(&KeyReference::from(id(2).to_string().as_str())).await.unwrap().unwrap();
    assert_eq!((by_name.id, by_id.id), (id(2), id(2)));
}

/// Unknown references find nothing.
pub async fn unknown_key_is_none(backend: &impl Backend) {
    let store = backend.open().await;
    insert_keys(&*store, &[key(1)]).await;
    assert!(store.key(&KeyReference::from("key-9")).await.unwrap().is_none());
    assert!(store.key(&KeyReference::Id(id(9))).await.unwrap().is_none());
    assert!(store.key(&KeyReference::from("KEY-1")).await.unwrap().is_none(), "names are case-sensitive");
}

/// Two keys cannot share a name.
pub async fn taken_name_is_refused(backend: &impl Backend) {
    let store = backend.open().await;
    insert_keys(&*store, &[key(1)]).await;
    let mut second = key(2);
    second.name = key(1).name;
    let mut transaction = store.begin().await.unwrap();
    assert!(transaction.insert_keys(&[second]).await.is_err());
}

/// Two versions cannot share a digest.
pub async fn taken_digest_is_refused(backend: &impl Backend) {
    let store = backend.open().await;
    insert_keys(&*store, &[key(1)]).await;
    let mut second = version(1, 2);
    second.digest = version(1, 1).digest;
    let mut transaction = store.begin().await.unwrap();
    assert!(transaction.insert_versions(&[(id(1), &second)]).await.is_err());
}

/// A version needs its key.
pub async fn version_of_unknown_key_is_refused(backend: &impl Backend) {
    let store = backend.open().await;
    let mut transaction = store.begin().await.unwrap();
    let inserted = transaction.insert_versions(&[(id(9), &version(9, 1))]).await;
    assert!(inserted.is_err() || transaction.commit().await.is_err());
}

/// Names and digests are reported as taken inside and after the transaction.
pub async fn taken_names_and_digests_are_reported(backend: &impl Backend) {
    let store = backend.open().await;
    let mut transaction = store.begin().await.unwrap();
    assert!(!transaction.key_name_is_taken(&key(1).name).await.unwrap());
    assert!(!transaction.digest_is_taken(version(1, 1).digest).await.unwrap());
    transaction.insert_keys(&[key(1)]).await.unwrap();
    assert!(transaction.key_name_is_taken(&key(1).name).await.unwrap());
    assert!(transaction.digest_is_taken(version(1, 1).digest).await.unwrap());
    assert!(!transaction.digest_is_taken(Digest::of(b"other")).await.unwrap());
}

/// Versions are returned in ascending order, whatever the order of their insertion.
pub async fn versions_are_in_ascending_order(backend: &impl Backend) {
    let store = backend.open().await;
    insert_keys(&*store, &[key(1)]).await;
    let mut transaction = store.begin().await.unwrap();
    let (third, second) = (version(1, 3), version(1, 2));
    transaction.insert_versions(&[(id(1), &third), (id(1), &second)]).await.unwrap();
    transaction.commit().await.unwrap();
    let found = store.key(&KeyReference::Id(id(1))).await.unwrap().unwrap();
    assert_eq!(found.versions.iter().map(|one| one.version).collect::<Vec<_>>(), [1, 2, 3]);
}

/// Every change increments the revision.
pub async fn revision_advances(backend: &impl Backend) {
    let store = backend.open().await;
    insert_keys(&*store, &[key(1)]).await;
    let mut one = key(1);
    let mut transaction = store.begin().await.unwrap();
    transaction.advance_revision(&mut one).await.unwrap();
    assert_eq!(one.revision, 2);
    assert_eq!(transaction.key(&KeyReference::Id(id(1))).await.unwrap().unwrap().revision, 2);
    transaction.commit().await.unwrap();
    assert_eq!(store.key(&KeyReference::Id(id(1))).await.unwrap().unwrap().revision, 2);
}

/// An update writes the changeable fields and no others.
pub async fn update_writes_what_may_change(backend: &impl Backend) {
    let store = backend.open().await;
    insert_keys(&*store, &[key(1), key(2)]).await;
    let mut changed = key(1);
    changed.scopes = scopes("tickets:read");
    changed.rate_limit = RateLimit { per_minute: None, per_hour: Some(5), burst: None };
    changed.description = Some("changed".to_owned());
    changed.expires_at = Some(at(DAY));
    let mut written = changed.clone();
    written.environment = Environment::Test;
    written.created_by = "somebody else".to_owned();
    let mut transaction = store.begin().await.unwrap();
    transaction.update_key(&written).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(store.key(&KeyReference::Id(id(1))).await.unwrap(), Some(changed));
    assert_eq!(store.key(&KeyReference::Id(id(2))).await.unwrap(), Some(key(2)));
}

/// The expiry of a version is set only on this version.
pub async fn version_end_is_set(backend: &impl Backend) {
    let store = backend.open().await;
    let mut one = key(1);
    one.versions.push(version(1, 2));
    insert_keys(&*store, &[one]).await;
    let mut transaction = store.begin().await.unwrap();
    transaction.end_version(id(1), 1, at(9)).await.unwrap();
    transaction.commit().await.unwrap();
    let found = store.key(&KeyReference::Id(id(1))).await.unwrap().unwrap();
    assert_eq!((found.versions[0].expires_at, found.versions[1].expires_at), (Some(at(9)), None));
}

/// A version is revoked once.
pub async fn revoked_version_keeps_its_time(backend: &impl Backend) {
    let store = backend.open().await;
    insert_keys(&*store, &[key(1)]).await;
    for time in [5, 9] {
        let mut transaction = store.begin().await.unwrap();
        transaction.revoke_version(id(1), 1, at(time)).await.unwrap();
        transaction.commit().await.unwrap();
    }
    let found = store.key(&KeyReference::Id(id(1))).await.unwrap().unwrap();
    assert_eq!(found.versions[0].revoked_at, Some(at(5)));
}

/// Each order of a list, over several pages.
pub async fn lists_are_ordered_and_paged(backend: &impl Backend) {
    let store = backend.open().await;
    // Names in another order than identifiers.
    let keys: Vec<_> = [(1, "c"), (2, "a"), (3, "d"), (4, "b")]
        .map(|(n, name)| {
            let mut key = key(n);
            key.name = name.parse().unwrap();
            key.versions.push(version(n, 2));
            key
        })
        .into();
    insert_keys(&*store, &keys).await;
    for (order, expected) in [
        (KeyOrder::Newest, ["b", "d", "a", "c"]),
        (KeyOrder::Oldest, ["c", "a", "d", "b"]),
        (KeyOrder::Name, ["a", "b", "c", "d"]),
        (KeyOrder::NameReversed, ["d", "c", "b", "a"]),
    ] {
        let filter = KeyFilter { order, ..all() };
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.keys(&filter, after, 3).await.unwrap();
            assert!(page.len() <= 3 && page.iter().all(|key| key.versions.len() == 2));
            after = page.last().map(|key| key.id);
            found.extend(page.iter().map(|key| key.name.to_string()));
            if page.is_empty() {
                break;
            }
        }
        assert_eq!(found, expected, "{order:?}");
    }
}

/// A limit counts keys, not versions; 0 returns nothing.
pub async fn key_list_limit_counts_keys(backend: &impl Backend) {
    let store = backend.open().await;
    let mut one = key(1);
    one.versions.extend([version(1, 2), version(1, 3)]);
    insert_keys(&*store, &[one, key(2)]).await;
    assert_eq!(store.keys(&all(), None, 2).await.unwrap().len(), 2);
    assert_eq!(store.keys(&all(), None, 1).await.unwrap()[0].id, id(2));
    assert_eq!(store.keys(&all(), None, 0).await.unwrap().len(), 0);
    assert_eq!(store.keys(&all(), None, usize::MAX).await.unwrap().len(), 2);
}

/// One key of each status, and a filter for each.
pub async fn keys_are_filtered_and_counted_by_status(backend: &impl Backend) {
    let store = backend.open().await;
    let (active, mut rotating, mut revoked, mut expired) = (key(1), key(2), key(3), key(4));
    rotating.versions.push(version(2, 2));
    rotating.versions[0].expires_at = Some(at(1_000));
    revoked.versions[0].revoked_at = Some(at(1));
    expired.expires_at = Some(at(10));
    expired.environment = Environment::Test;
    insert_keys(&*store, &[active, rotating, revoked, expired]).await;
    let now = at(500);
    for (status, expected) in [
        (KeyStatus::Active, "key-1"),
        (KeyStatus::Rotating, "key-2"),
        (KeyStatus::Revoked, "key-3"),
        (KeyStatus::Expired, "key-4"),
    ] {
        assert_eq!(names(&*store, &KeyFilter { status: Some((status, now)), ..all() }).await, [expected]);
    }
    let mut counts = store.key_counts(now).await.unwrap();
    counts.sort_by_key(|(_, status, _)| status.as_str());
    assert_eq!(
        counts,
        [
            (Environment::Live, KeyStatus::Active, 1),
            (Environment::Test, KeyStatus::Expired, 1),
            (Environment::Live, KeyStatus::Revoked, 1),
            (Environment::Live, KeyStatus::Rotating, 1),
        ]
    );
    // The overlap is over.
    let later = KeyFilter { status: Some((KeyStatus::Active, at(1_000))), ..all() };
    assert_eq!(names(&*store, &later).await, ["key-2", "key-1"]);
}

/// Environment and scope narrow a list; a scope matches as a whole.
pub async fn keys_are_filtered_by_environment_and_scope(backend: &impl Backend) {
    let store = backend.open().await;
    let (mut one, mut two) = (key(1), key(2));
    one.environment = Environment::Test;
    two.scopes = scopes("contacts:readers contacts:write");
    insert_keys(&*store, &[one, two, key(3)]).await;
    let environment = KeyFilter { environment: Some(Environment::Test), ..all() };
    assert_eq!(names(&*store, &environment).await, ["key-1"]);
    let narrow = KeyFilter { scope: Some(scope("contacts:read")), ..all() };
    assert_eq!(names(&*store, &narrow).await, ["key-3", "key-1"]);
    let narrow = KeyFilter { scope: Some(scope("contacts:write")), ..all() };
    assert_eq!(names(&*store, &narrow).await, ["key-2"]);
}

/// Rotation is due when the newest accepted version is old.
pub async fn keys_are_filtered_by_rotation(backend: &impl Backend) {
    let store = backend.open().await;
    let (old, mut renewed, mut gone) = (key(1), key(2), key(3));
    let mut young = version(2, 2);
    young.created_at = at(10 * DAY);
    renewed.versions.push(young);
    gone.versions[0].revoked_at = Some(at(1));
    insert_keys(&*store, &[old, renewed, gone]).await;
    let filter = |due, created_until| KeyFilter {
        rotation: Some(RotationFilter { due, now: at(11 * DAY), created_until }),
        ..all()
    };
    assert_eq!(names(&*store, &filter(true, Some(at(9 * DAY)))).await, ["key-1"]);
    assert_eq!(names(&*store, &filter(false, Some(at(9 * DAY)))).await, ["key-3", "key-2"]);
    assert_eq!(names(&*store, &filter(true, Some(at(10 * DAY)))).await, ["key-2", "key-1"]);
    assert_eq!(names(&*store, &filter(true, None)).await, [""; 0]);
    assert_eq!(names(&*store, &filter(false, None)).await.len(), 3);
}

/// A refused call does not count as use of a key.
pub async fn keys_are_filtered_by_use(backend: &impl Backend) {
    let store = backend.open().await;
    insert_keys(&*store, &[key(1), key(2), key(3)]).await;
    let denial = omniflow_policy::denial::Denial::InsufficientScope;
    let records = vec![
        record(0, START + 5, Some((id(1), "key-1"))),
        refused(1, START + 5, Some((id(2), "key-2")), denial),
    ];
    ingest(&*store, records).await;
    let unused = |since| KeyFilter { unused_since: Some(at(since)), ..all() };
    assert_eq!(names(&*store, &unused(5)).await, ["key-3", "key-2"]);
    assert_eq!(names(&*store, &unused(6)).await.len(), 3);
}

/// A key expires with the last of its accepted versions.
pub async fn keys_are_filtered_by_expiry(backend: &impl Backend) {
    let store = backend.open().await;
    let (mut soon, mut extended, mut over, lasting) = (key(1), key(2), key(3), key(4));
    soon.expires_at = Some(at(100));
    extended.versions[0].expires_at = Some(at(100));
    extended.versions.push(version(2, 2));
    over.expires_at = Some(at(10));
    insert_keys(&*store, &[soon, extended, over, lasting]).await;
    let expiring = |end| KeyFilter { expiring: Some((at(50), at(end))), ..all() };
    assert_eq!(names(&*store, &expiring(101)).await, ["key-1"]);
    assert_eq!(names(&*store, &expiring(100)).await, [""; 0]);
}

/// Text is found in names and descriptions, ignoring ASCII case, and in hints exactly.
pub async fn keys_are_found_by_text(backend: &impl Backend) {
    let store = backend.open().await;
    let (mut one, mut two, mut three) = (key(1), key(2), key(3));
    one.name = "billing export".parse().unwrap();
    two.description = Some("Nightly EXPORT of \"invoices\" %_".to_owned());
    three.versions[0].hint = "xP0r".to_owned();
    insert_keys(&*store, &[one, two, three]).await;
    let found = async |text: &str| names(&*store, &KeyFilter { text: Some(text.to_owned()), ..all() }).await;
    assert_eq!(found("EXP").await, ["key-2", "billing export"]);
    assert_eq!(found("export").await, ["key-2", "billing export"]);
    assert_eq!(found("ng").await, ["billing export"]);
    assert_eq!(found("xP0r").await, ["key-3"]);
    assert_eq!(found("xp0r").await, [""; 0]);
    assert_eq!(found("\"invoices\" %_").await, ["key-2"]);
    assert_eq!(found("%").await, ["key-2"]);
    assert_eq!(found("nothing").await, [""; 0]);
    assert_eq!(found("exp\0").await, [""; 0]);
}

/// A changed description is found by its new text only.
pub async fn search_follows_changes(backend: &impl Backend) {
    let store = backend.open().await;
    insert_keys(&*store, &[key(1)]).await;
    for text in ["first text", "second text"] {
        let mut changed = key(1);
        changed.description = Some(text.to_owned());
        let mut transaction = store.begin().await.unwrap();
        transaction.update_key(&changed).await.unwrap();
        transaction.commit().await.unwrap();
    }
    let found = async |text: &str| names(&*store, &KeyFilter { text: Some(text.to_owned()), ..all() }).await;
    assert_eq!(found("second").await, ["key-1"]);
    assert_eq!(found("first").await, [""; 0]);
}

/// Conditions are combined, and paging continues within them.
pub async fn conditions_are_combined(backend: &impl Backend) {
    let store = backend.open().await;
    let keys: Vec<_> = (1..=20)
        .map(|n| {
            let mut key = key(n);
            key.environment = if n % 2 == 0 { Environment::Live } else { Environment::Test };
            key.description = (n % 3 == 0).then(|| "nightly".to_owned());
            key
        })
        .collect();
    insert_keys(&*store, &keys).await;
    let filter = KeyFilter {
        environment: Some(Environment::Live),
        text: Some("nightly".to_owned()),
        status: Some((KeyStatus::Active, at(DAY))),
        ..all()
    };
    let first = store.keys(&filter, None, 2).await.unwrap();
    assert_eq!(first.iter().map(|key| key.id).collect::<Vec<_>>(), [id(18), id(12)]);
    let second = store.keys(&filter, Some(id(12)), 2).await.unwrap();
    assert_eq!(second.iter().map(|key| key.id).collect::<Vec<_>>(), [id(6)]);
}

/// A bulk insert has no size limit.
pub async fn thousands_of_keys_are_inserted_at_once(backend: &impl Backend) {
    let store = backend.open().await;
    let keys: Vec<_> = (1..=3_001).map(key).collect();
    insert_keys(&*store, &keys).await;
    assert_eq!(store.version_count().await.unwrap(), 3_001);
    assert_eq!(store.keys(&all(), None, 5_000).await.unwrap().len(), 3_001);
}

/// The shares of the credentials are disjoint and complete.
pub async fn credentials_are_read_in_shares(backend: &impl Backend) {
    let store = backend.open().await;
    let mut keys: Vec<_> = (1..=9_000).map(key).collect();
    keys[0].versions.push(version(1, 2));
    insert_keys(&*store, &keys).await;
    for parts in [1, 3] {
        let mut builders = Vec::new();
        for part in 0..parts {
            let mut builder = ImageBuilder::new(9_001);
            store.read_credentials(part, parts, &mut builder).await.unwrap();
            builders.push(builder);
        }
        let expected = keys.iter().flat_map(|key| key.credentials()).collect();
        let expected =
            omniflow_policy::snapshot::Image::build(id(7), 1, &policy(1).document, expected).unwrap();
        let document = policy(1).document.to_json().into();
        let pages = ImageBuilder::segments(&builders, id(7), 1, 0..builders[0].segment_count()).unwrap();
        let image = omniflow_policy::snapshot::Image::from_segments(id(7), 1, document, pages).unwrap();
        assert_eq!((image.len(), image.manifest()), (expected.len(), expected.manifest()), "{parts}");
    }
}

/// Without keys there are no credentials.
pub async fn empty_store_has_no_credentials(backend: &impl Backend) {
    let store = backend.open().await;
    let mut builder = ImageBuilder::new(0);
    store.read_credentials(0, 4, &mut builder).await.unwrap();
    assert_eq!(store.version_count().await.unwrap(), 0);
    assert_eq!(store.key_counts(at(0)).await.unwrap(), []);
    assert!(store.keys(&all(), Some(Uuid::nil()), 9).await.unwrap().is_empty());
}
