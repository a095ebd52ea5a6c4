use std::os::unix::fs::PermissionsExt;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions};
use tempfile::TempDir;

use super::*;
use crate::backup::{MANIFEST_FILE, back_up};
use omniflow_domain::admin_event::AdminLogFilter;
use omniflow_domain::audit_query::AuditFilter;
use omniflow_store::contract::fixtures::{START, id, ingest, insert_keys, installation, key, record, token};
use omniflow_store::{AdminLogStore, KeyFilter, KeyStore, RequestLogStore};

const TAKEN: &str = "2027-01-15T08:00:00.000Z";
const NOW: UnixMillis = UnixMillis(START + 60_000);

/// A store that is in use.
struct Running {
    store: SqliteStore,
    folder: TempDir,
}

impl Running {
    fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// A store with a key and a record, and a backup of it in a directory with space for more.
async fn backed_up(with_audit: bool) -> (Running, TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    let mut transaction = store.begin().await.unwrap();
    transaction.insert_installation(&installation()).await.unwrap();
    transaction.commit().await.unwrap();
    insert_keys(&store, &[key(1)]).await;
    ingest(&store, vec![record(0, START, None)]).await;
    let room = tempfile::tempdir().unwrap();
    let backup = room.path().join("backup");
    back_up(folder.path(), &backup, with_audit, TAKEN.to_owned()).await.unwrap();
    (Running { store, folder }, room, backup)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn keys_and_records(folder: &Path) -> (usize, usize) {
    let store = SqliteStore::open(folder).await.unwrap();
    let keys = store.keys(&KeyFilter::default(), None, 9).await.unwrap().len();
    let records = store.audit_entries(&AuditFilter::default(), None, 9).await.unwrap();
    store.close().await;
    (keys, records.len())
}

#[tokio::test]
async fn backup_is_private_and_taken_while_the_store_is_in_use() {
    let (running, room, backup) = backed_up(true).await;
    assert_eq!(names(&backup), [AUDIT_FILE, MANIFEST_FILE, MAIN_FILE]);
    assert_eq!(names(room.path()), ["backup"]);
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o700);
    for name in names(&backup) {
        assert_eq!(fs::metadata(backup.join(&name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    let error = back_up(running.folder(), &backup, true, TAKEN.to_owned()).await.unwrap_err();
    assert!(matches!(error, BackupError::Exists(_)), "{error}");
    let error = back_up(room.path(), &room.path().join("b"), true, TAKEN.to_owned()).await.unwrap_err();
    assert!(matches!(error, BackupError::NoDatabase(_)), "{error}");
    fs::create_dir(room.path().join("c.unfinished")).unwrap();
    let error = back_up(running.folder(), &room.path().join("c"), true, TAKEN.to_owned()).await.unwrap_err();
    assert!(matches!(error, BackupError::Unfinished(_)), "{error}");
}

#[tokio::test]
async fn failed_backup_leaves_nothing() {
    let (running, room, _) = backed_up(true).await;
    fs::write(room.path().join(MAIN_FILE), "no database at all").unwrap();
    let to = room.path().join("of-garbage");
    assert!(back_up(room.path(), &to, false, TAKEN.to_owned()).await.is_err());
    assert_eq!(names(room.path()), ["backup", MAIN_FILE]);
    drop(running);
}

#[tokio::test]
async fn restored_version_is_above_all_that_gateways_hold() {
    let (_running, room, backup) = backed_up(true).await;
    let target = room.path().join("new");
    let restored = restore(&backup, &target, false, NOW).await.unwrap();
    assert_eq!((restored.installation, restored.aside), (id(7), None));
    assert!(restored.snapshot_version > NOW.0 + RESTORE_LEAD_MS);
    assert_eq!(names(&target), [AUDIT_FILE, "lock", MAIN_FILE]);
    assert_eq!(keys_and_records(&target).await, (1, 1));
    assert_eq!(last_version(&target).await, Some(restored.snapshot_version));
    // Again at the same instant, over the restored database.
    let again = restore(&backup, &target, true, NOW).await.unwrap();
    assert_eq!(again.snapshot_version, restored.snapshot_version + 1);
}

#[tokio::test]
async fn existing_databases_are_moved_aside_only_on_request() {
    let (running, room, backup) = backed_up(false).await;
    insert_keys(&running.store, &[key(2)]).await;
    let error = restore(&backup, running.folder(), true, NOW).await.unwrap_err();
    assert!(error.to_string().contains("another process is using the data directory"), "{error}");
    let folder = room.path().join("data");
    fs::create_dir(&folder).unwrap();
    for name in [MAIN_FILE, AUDIT_FILE] {
        fs::copy(running.folder().join(name), folder.join(name)).unwrap();
        fs::copy(running.folder().join(format!("{name}-wal")), folder.join(format!("{name}-wal"))).unwrap();
    }
    let before = names(&folder);
    let error = restore(&backup, &folder, false, NOW).await.unwrap_err();
    assert!(matches!(error, BackupError::Occupied(_)), "{error}");
    assert_eq!(
        names(&folder).iter().filter(|name| *name != "lock").collect::<Vec<_>>(),
        before.iter().collect::<Vec<_>>()
    );
    let restored = restore(&backup, &folder, true, NOW).await.unwrap();
    assert_eq!(keys_and_records(&folder).await, (1, 0), "a backup without records restores none");
    assert_eq!(keys_and_records(&restored.aside.unwrap()).await, (2, 1));
    drop(running);
}

#[tokio::test]
async fn what_a_restore_makes_valid_again_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    let mut transaction = store.begin().await.unwrap();
    transaction.insert_installation(&installation()).await.unwrap();
    assert!(transaction.insert_token(&token(1)).await.unwrap());
    transaction.commit().await.unwrap();
    insert_keys(&store, &[key(1), key(2)]).await;
    let room = tempfile::tempdir().unwrap();
    let backup = room.path().join("backup");
    back_up(folder.path(), &backup, true, TAKEN.to_owned()).await.unwrap();
    let mut transaction = store.begin().await.unwrap();
    transaction.revoke_version(id(1), 1, NOW).await.unwrap();
    transaction.delete_token(id(1)).await.unwrap();
    transaction.commit().await.unwrap();
    store.close().await;
    drop(store);
    let restored = restore(&backup, folder.path(), true, NOW).await.unwrap();
    let expected =
        Revived { versions: vec![(key(1).name.to_string(), 1)], tokens: vec![token(1).name.to_string()] };
    assert_eq!(restored.revived, Some(expected));
    let store = SqliteStore::open(folder.path()).await.unwrap();
    let noted = store.admin_events(&AdminLogFilter::default(), None, 1).await.unwrap();
    let after = noted[0].noted.after.clone().unwrap();
    assert_eq!(after["revived_keys"], json!([format!("{} version 1", key(1).name)]));
    assert_eq!(after["revived_tokens"], json!([token(1).name]));
    store.close().await;
    drop(store);
    let unused = room.path().join("unused");
    assert_eq!(restore(&backup, &unused, false, NOW).await.unwrap().revived, None);
}

/// The way back from an upgrade: the earlier release restores its backup over databases that it cannot open.
#[tokio::test]
async fn backup_replaces_databases_of_a_newer_release() {
    let (running, room, backup) = backed_up(true).await;
    let mut transaction = running.store.begin().await.unwrap();
    transaction.revoke_version(id(1), 1, NOW).await.unwrap();
    transaction.commit().await.unwrap();
    let folder = running.folder().to_owned();
    running.store.close().await;
    let Running { store, folder: _kept } = running;
    drop(store);
    for name in [MAIN_FILE, AUDIT_FILE] {
        let mut database = SqliteConnectOptions::new().filename(folder.join(name)).connect().await.unwrap();
        let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                     VALUES (99, 'later', 1, x'00', 0)";
        sqlx::query(later).execute(&mut database).await.unwrap();
        database.close().await.unwrap();
    }
    let refused = SqliteStore::open(&folder).await.unwrap_err();
    assert!(matches!(refused, StoreError::NewerRelease { version: 99, .. }), "{refused}");
    let newer = room.path().join("newer");
    back_up(&folder, &newer, true, TAKEN.to_owned()).await.unwrap();
    let restored = restore(&backup, &folder, true, NOW).await.unwrap();
    assert_eq!(restored.revived.unwrap().versions, [(key(1).name.to_string(), 1)]);
    assert_eq!(keys_and_records(&folder).await, (1, 1));
    let refused = restore(&newer, &room.path().join("other"), false, NOW).await.unwrap_err();
    assert!(refused.to_string().contains("newer release"), "{refused}");
}

#[tokio::test]
async fn backup_with_a_foreign_trigger_is_rejected() {
    let (_running, room, backup) = backed_up(true).await;
    let target = room.path().join("new");
    for name in [MAIN_FILE, AUDIT_FILE] {
        let path = backup.join(name);
        let before = fs::read(&path).unwrap();
        let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
        let table = if name == MAIN_FILE { "admin_log" } else { "audit_gaps" };
        let trigger = format!("CREATE TRIGGER evil AFTER INSERT ON {table} BEGIN SELECT 1; END");
        sqlx::query(AssertSqlSafe(trigger)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        state_anew(&backup, name);
        let error = restore(&backup, &target, false, NOW).await.unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("a trigger, table or index"), "{error}");
        fs::write(&path, before).unwrap();
        state_anew(&backup, name);
    }
    restore(&backup, &target, false, NOW).await.unwrap();
}

/// Writes the size and digest of a file into the manifest, as an attacker who can change the file could.
fn state_anew(backup: &Path, name: &str) {
    let path = backup.join(MANIFEST_FILE);
    let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let bytes = fs::read(backup.join(name)).unwrap();
    let files = manifest["files"].as_array_mut().unwrap();
    let file = files.iter_mut().find(|file| file["name"] == name).unwrap();
    file["bytes"] = bytes.len().into();
    file["sha256"] = omniflow_policy::digest::Digest::of(&bytes).to_hex().into();
    fs::write(path, manifest.to_string()).unwrap();
}

#[tokio::test]
async fn damaged_backup_is_rejected_before_anything_changes() {
    let (_running, room, backup) = backed_up(true).await;
    let target = room.path().join("new");
    let manifest = fs::read_to_string(backup.join(MANIFEST_FILE)).unwrap();
    let refused = async |why: &str| {
        let error = restore(&backup, &target, false, NOW).await.unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
        assert!(!target.join(MAIN_FILE).exists() && !target.join(STAGING).exists(), "{why}");
    };
    let good = fs::read(backup.join(AUDIT_FILE)).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    fs::write(backup.join(AUDIT_FILE), &bad).unwrap();
    refused("digest").await;
    // A copy whose digest was adjusted to match.
    let digests = |bytes: &[u8]| omniflow_policy::digest::Digest::of(bytes).to_hex();
    let mut broken = good.clone();
    broken[4096 + 8..4096 + 64].fill(0xff);
    fs::write(backup.join(AUDIT_FILE), &broken).unwrap();
    fs::write(backup.join(MANIFEST_FILE), manifest.replace(&digests(&good), &digests(&broken))).unwrap();
    refused("restore another backup").await;
    fs::write(backup.join(AUDIT_FILE), &good).unwrap();
    let other = manifest.replace(&id(7).to_string(), &Uuid::nil().to_string());
    for (text, why) in [
        (other, "does not belong to installation"),
        (manifest.replace("\"format\": 1", "\"format\": 2"), "format is 2"),
        (manifest.replace("omniflow.db", "../omniflow.db"), "must list"),
        (manifest.replace("omniflow.db", "other.db"), "must list"),
        (manifest.replace("audit.db", "omniflow.db"), "each once"),
        (manifest.replace("2027-01-15", "2027-01-16"), "clock"),
        (manifest.replace("2027-01-15T", "yesterday"), "taken_at is not a time"),
        ("{}".to_owned(), "missing field"),
    ] {
        fs::write(backup.join(MANIFEST_FILE), text).unwrap();
        refused(why).await;
    }
    for (name, why) in [(MANIFEST_FILE, "is not a backup"), (AUDIT_FILE, "is damaged")] {
        let (path, elsewhere) = (backup.join(name), room.path().join(name));
        fs::write(backup.join(MANIFEST_FILE), &manifest).unwrap();
        fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        refused("not a regular file").await;
        fs::remove_file(&path).unwrap();
        refused(why).await;
        fs::rename(&elsewhere, &path).unwrap();
    }
    fs::write(backup.join(MANIFEST_FILE), manifest).unwrap();
    restore(&backup, &target, false, NOW).await.unwrap();
}

/// Sets the last published version in a database.
async fn publish(database: &Path, version: i64) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let set = sqlx::query("UPDATE installation SET snapshot_version = ?").bind(version);
    set.execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn implausible_version_is_ignored() {
    let (_running, room, backup) = backed_up(false).await;
    let folder = room.path().join("data");
    let mut expected = restore(&backup, &folder, false, NOW).await.unwrap().snapshot_version;
    let most = MAX_REPORTED_VERSION.cast_signed();
    for (there, counts) in [(expected as i64, true), (most - 1, true), (most, false), (-1, false)] {
        publish(&folder.join(MAIN_FILE), there).await;
        let restored = restore(&backup, &folder, true, NOW).await.unwrap();
        expected = if counts { there.cast_unsigned() + 1 } else { NOW.0 + RESTORE_LEAD_MS + 1 };
        assert_eq!(restored.snapshot_version, expected, "{there}");
    }
    for there in [most, i64::MAX, -1] {
        let copy = backup.join(MAIN_FILE);
        let before = fs::read(&copy).unwrap();
        publish(&copy, there).await;
        let digest = |bytes: &[u8]| omniflow_policy::digest::Digest::of(bytes).to_hex();
        let manifest = fs::read_to_string(backup.join(MANIFEST_FILE)).unwrap();
        let manifest = manifest.replace(&digest(&before), &digest(&fs::read(&copy).unwrap()));
        fs::write(backup.join(MANIFEST_FILE), manifest).unwrap();
        let error = restore(&backup, &folder, true, NOW).await.unwrap_err().to_string();
        assert!(error.contains("higher than any"), "{there}: {error}");
    }
    assert_eq!(last_version(&folder).await, Some(expected));
}

#[tokio::test]
async fn restore_is_in_the_admin_log() {
    let (_running, room, backup) = backed_up(false).await;
    let folder = room.path().join("data");
    let first = restore(&backup, &folder, false, NOW).await.unwrap().snapshot_version;
    let second = restore(&backup, &folder, true, NOW).await.unwrap().snapshot_version;
    let store = SqliteStore::open(&folder).await.unwrap();
    let noted = store.admin_events(&AdminLogFilter::default(), None, 1).await.unwrap();
    let noted = &noted[0].noted;
    assert_eq!((noted.action, noted.time), (Action::InstallationRestored, NOW));
    assert_eq!(noted.principal, PrincipalRef { id: None, name: "omf db restore".to_owned() });
    assert_eq!(noted.before, Some(json!({"snapshot_version": first})));
    let after = json!({
        "backup_taken_at": TAKEN, "snapshot_version": second, "revived_keys": [], "revived_tokens": [],
    });
    assert_eq!(noted.after, Some(after));
}

#[tokio::test]
async fn reason_without_a_backup_is_reported() {
    let (running, room, _) = backed_up(false).await;
    let data = room.path().join("data");
    drop(SqliteStore::open(&data).await.unwrap());
    let error = back_up(&data, &room.path().join("b"), true, TAKEN.to_owned()).await.unwrap_err();
    assert!(matches!(error, BackupError::NoInstallation(_)), "{error}");
    let missing = room.path().join("missing");
    let error = back_up(running.folder(), &missing.join("b"), true, TAKEN.to_owned()).await.unwrap_err();
    assert!(matches!(&error, BackupError::NoFolder(path) if *path == missing), "{error}");
}

/// Wherever a restore is interrupted after the point of no return, the next start finishes it.
#[tokio::test]
async fn interrupted_restore_is_finished_by_the_next_start() {
    let (running, room, backup) = backed_up(true).await;
    insert_keys(&running.store, &[key(2)]).await;
    for interrupted_after in 0..5 {
        let folder = room.path().join(format!("data-{interrupted_after}"));
        restore(&backup, &folder, false, NOW).await.unwrap();
        let ready = folder.join(READY);
        let fresh = room.path().join(format!("fresh-{interrupted_after}"));
        restore(&backup, &fresh, false, UnixMillis(NOW.0 + 1)).await.unwrap();
        fs::rename(&fresh, &ready).unwrap();
        fs::write(ready.join(ASIDE_FILE), "replaced-x").unwrap();
        fs::create_dir(folder.join("replaced-x")).unwrap();
        let aside = |name: &str| fs::rename(folder.join(name), folder.join("replaced-x").join(name));
        let install = |name: &str| fs::rename(ready.join(name), folder.join(name));
        let steps: [&dyn Fn() -> io::Result<()>; 4] =
            [&|| aside(MAIN_FILE), &|| install(MAIN_FILE), &|| aside(AUDIT_FILE), &|| install(AUDIT_FILE)];
        for step in &steps[..interrupted_after] {
            step().unwrap();
        }
        assert_eq!(keys_and_records(&folder).await, (1, 1));
        assert_eq!(last_version(&folder).await, Some(NOW.0 + 1 + RESTORE_LEAD_MS + 1), "{interrupted_after}");
        assert!(!ready.exists());
        let replaced = names(&folder.join("replaced-x"));
        assert!(
            replaced.iter().any(|name| name == MAIN_FILE) && replaced.iter().any(|name| name == AUDIT_FILE)
        );
    }
}
