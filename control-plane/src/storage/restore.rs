//! Putting a backup in the place of a data directory's databases: all of it, or nothing.
//!
//! The copies are checked and made ready in the folder `restoring`. Renaming that to `restored` is the decision:
//! from then on whoever opens the data directory, be it the next start after a crash, brings the restore to its end.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use omniflow_policy::time::UnixMillis;
use serde_json::json;
use sqlx::{Connection, Row};
use uuid::Uuid;

use super::backup::{BackupError, BackupManifest, copy, read_only, regular_file, sync_directory};
use super::form;
use super::{AUDIT_FILE, MAIN_FILE, Result, Storage, at, lock};
use crate::files;
use crate::json::time::parse_time;
use crate::model::event::{Action, Actor, NewEvent, Subject};
use crate::publication::{MAX_LEAD_MS, MAX_REPORTED_VERSION};

/// What is being copied and checked; worth nothing after an interruption.
const STAGING: &str = "restoring";
/// What is whole and takes the place of the databases.
const READY: &str = "restored";
/// In [`STAGING`]: new databases, whose form is compared with that of the copies.
const SCRATCH: &str = "new";
/// In [`READY`]: the name of the folder that the databases before it go to.
const ASIDE_FILE: &str = "aside";

/// Who restores, in the trail: no token is asked for.
const ACTOR: &str = "omf db restore";

/// A restore that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Restored {
    /// Whose keys these are.
    pub(crate) installation: Uuid,
    /// When the backup was taken, RFC 3339.
    pub(crate) taken_at: String,
    /// Whether the backup had an audit log. If not, the log is empty.
    pub(crate) with_audit: bool,
    /// Where the databases lie that were there before.
    pub(crate) aside: Option<PathBuf>,
    /// The version of the snapshot that gateways are given next.
    pub(crate) snapshot_version: u64,
}

/// Puts the backup in the place of the databases in `directory`, which no process may be working on. Databases that
/// are there are moved aside if `replace` allows it.
pub(crate) async fn restore(
    backup: &Path,
    directory: &Path,
    replace: bool,
    now: UnixMillis,
) -> std::result::Result<Restored, BackupError> {
    let manifest = BackupManifest::read(backup)?;
    if parse_time(&manifest.taken_at).is_none_or(|taken| taken > now) {
        return Err(BackupError::Clock(manifest.taken_at));
    }
    files::make_private_directory(directory).map_err(at(directory))?;
    let _lock = lock(directory)?;
    finish(directory)?;
    let occupied = [MAIN_FILE, AUDIT_FILE].iter().any(|name| directory.join(name).exists());
    if occupied && !replace {
        return Err(BackupError::Occupied(directory.to_owned()));
    }
    let staging = directory.join(STAGING);
    // Left by a restore that was interrupted.
    if staging.exists() {
        fs::remove_dir_all(&staging).map_err(at(&staging))?;
    }
    files::make_private_directory(&staging).map_err(at(&staging))?;
    let staged = stage(backup, &manifest, &staging, last_version(directory).await, now).await;
    let snapshot_version = match staged {
        Ok(version) => version,
        Err(error) => {
            fs::remove_dir_all(&staging).map_err(at(&staging))?;
            return Err(error);
        }
    };
    let aside = aside_name(directory, now);
    files::write_private(&staging.join(ASIDE_FILE), &aside).map_err(at(&staging))?;
    sync_directory(&staging).map_err(at(&staging))?;
    fs::rename(&staging, directory.join(READY)).map_err(at(&staging))?;
    finish(directory)?;
    Ok(Restored {
        installation: manifest.installation,
        with_audit: manifest.files.iter().any(|file| file.name == AUDIT_FILE),
        taken_at: manifest.taken_at,
        aside: occupied.then(|| directory.join(aside)),
        snapshot_version,
    })
}

/// Copies the databases, checks them, brings them to this release's form, and sets the version that gateways are
/// given next.
async fn stage(
    backup: &Path,
    manifest: &BackupManifest,
    staging: &Path,
    last_version: Option<u64>,
    now: UnixMillis,
) -> std::result::Result<u64, BackupError> {
    for file in &manifest.files {
        let (from, to) = (backup.join(&file.name), staging.join(&file.name));
        let target = files::open_private(&to).map_err(at(&to))?;
        let damaged = |reason| BackupError::Damaged { path: from.clone(), reason };
        let source = regular_file(&from).map_err(|error| damaged(error.to_string()))?;
        // One byte more than there should be tells that there is more, and does not fill the disk.
        let source = source.take(file.bytes.saturating_add(1));
        let (bytes, sha256) = copy(source, &target).map_err(at(&from))?;
        target.sync_all().map_err(at(&to))?;
        if (bytes, sha256) != (file.bytes, file.sha256) {
            return Err(damaged("its digest is not the one in backup.json".to_owned()));
        }
        let fault = fault(&to).await.unwrap_or_else(|error| Some(error.to_string()));
        if let Some(reason) = fault {
            return Err(damaged(reason));
        }
    }
    let storage = Storage::open(staging).await?;
    let foreign = form::foreign(&storage, &staging.join(SCRATCH)).await?;
    let set = match foreign {
        None => set_version(&storage, manifest, last_version, now).await,
        Some(_) => Ok(Err("it has a trigger, table or index that no release makes".to_owned())),
    };
    storage.close().await;
    let file = foreign.unwrap_or(MAIN_FILE);
    let damaged = |reason| BackupError::Damaged { path: backup.join(file), reason };
    let version = set?.map_err(damaged)?;
    for name in [MAIN_FILE, AUDIT_FILE] {
        // Only the databases are put in place, so nothing may be left in their logs.
        let log = staging.join(format!("{name}-wal"));
        if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            return Err(at(&log)(io::Error::other("was not folded into its database; try again")).into());
        }
    }
    Ok(version)
}

/// Puts the version above every one that a gateway can hold (see "A restore" in docs/ARCHITECTURE.md), and notes the
/// restore in the trail. The inner error says why the database is not the one that the backup tells of.
async fn set_version(
    storage: &Storage,
    manifest: &BackupManifest,
    last_version: Option<u64>,
    now: UnixMillis,
) -> Result<std::result::Result<u64, String>> {
    let stored = storage.main.installation().await?;
    let Some(stored) = stored.filter(|stored| stored.id == manifest.installation) else {
        return Ok(Err(format!("it is not of the installation {}", manifest.installation)));
    };
    if !can_follow(stored.snapshot_version) {
        return Ok(Err("its snapshot version is higher than any that was ever published".to_owned()));
    }
    let plausible = now.0.saturating_add(MAX_LEAD_MS);
    let version = stored.snapshot_version.max(last_version.unwrap_or(0)).max(plausible).saturating_add(1);
    let event = NewEvent {
        time: now,
        actor: Actor { id: None, name: ACTOR.to_owned() },
        action: Action::InstallationRestored,
        subject: Subject { id: stored.id.to_string(), name: stored.key_prefix.as_str().to_owned() },
        before: last_version.map(|version| json!({"snapshot_version": version})),
        after: Some(json!({"backup_taken_at": manifest.taken_at, "snapshot_version": version})),
    };
    let mut writer = storage.main.writer().await;
    let mut transaction = writer.begin().await?;
    transaction.set_snapshot_version(version).await?;
    // Who signed out since the backup stays signed out.
    transaction.purge_sessions((UnixMillis(u64::MAX), UnixMillis(u64::MAX))).await?;
    transaction.insert_event(&event).await?;
    transaction.commit().await?;
    Ok(Ok(version))
}

/// Whether another version may follow this one. What is higher was not counted by any control plane, and gateways that
/// hold what follows it could not say so.
fn can_follow(version: u64) -> bool {
    version < MAX_REPORTED_VERSION
}

/// What SQLite finds wrong with a database.
async fn fault(path: &Path) -> Result<Option<String>> {
    let mut reader = read_only(path).await?;
    let found = async {
        let integrity: String =
            sqlx::query("PRAGMA integrity_check").fetch_one(&mut reader).await?.try_get(0)?;
        if integrity != "ok" {
            return Ok(Some(integrity));
        }
        let orphan = sqlx::query("PRAGMA foreign_key_check").fetch_optional(&mut reader).await?;
        Ok(orphan.map(|_| "a row refers to one that is missing".to_owned()))
    }
    .await;
    reader.close().await?;
    found
}

/// The version that the databases that are there published last; `None` if there are none, or they cannot tell. They
/// may be what a restore is to mend.
async fn last_version(directory: &Path) -> Option<u64> {
    let path = directory.join(MAIN_FILE);
    if !path.exists() {
        return None;
    }
    let read = async {
        let mut reader = read_only(&path).await?;
        let row = sqlx::query("SELECT snapshot_version FROM installation").fetch_one(&mut reader).await;
        reader.close().await?;
        Result::Ok(row?.try_get::<i64, _>(0)?)
    };
    u64::try_from(read.await.ok()?).ok().filter(|version| can_follow(*version))
}

/// A name that nothing has.
fn aside_name(directory: &Path, now: UnixMillis) -> String {
    let time: String =
        crate::json::time::format_time(now).chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let mut name = format!("replaced-{time}");
    while directory.join(&name).exists() {
        name.push('_');
    }
    name
}

/// Brings a restore to its end that was decided on. The caller holds the lock. However often this is interrupted, the
/// next call goes on: a copy that has not moved yet tells that the database of its name is still the old one.
pub(super) fn finish(directory: &Path) -> Result<()> {
    let ready = directory.join(READY);
    if !ready.exists() {
        return Ok(());
    }
    // Were the decision lost after databases have moved, nothing would bring back the missing ones.
    sync_directory(directory).map_err(at(directory))?;
    let note = ready.join(ASIDE_FILE);
    if note.exists() {
        let aside = directory.join(fs::read_to_string(&note).map_err(at(&note))?);
        for name in [MAIN_FILE, AUDIT_FILE] {
            let (copy, target) = (ready.join(name), directory.join(name));
            if copy.exists() {
                move_aside(directory, name, &aside)?;
                fs::rename(&copy, &target).map_err(at(&target))?;
                sync_directory(directory).map_err(at(directory))?;
            }
        }
    }
    fs::remove_dir_all(&ready).map_err(at(&ready))?;
    sync_directory(directory).map_err(at(directory))
}

/// Moves a database with its write-ahead log. Without the log it would lack what was committed last.
fn move_aside(directory: &Path, name: &str, aside: &Path) -> Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let file = format!("{name}{suffix}");
        let from = directory.join(&file);
        if from.exists() {
            files::make_private_directory(aside).map_err(at(aside))?;
            fs::rename(&from, aside.join(&file)).map_err(at(&from))?;
        }
    }
    if aside.exists() { sync_directory(aside).map_err(at(aside)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use axum::http::{Method, StatusCode};
    use omniflow_policy::gateway::MANIFEST_MEDIA_TYPE;
    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{AssertSqlSafe, ConnectOptions};
    use tempfile::TempDir;

    use super::super::backup::{MANIFEST_FILE, back_up};
    use super::*;
    use crate::http::testing::{Plane, START, record, request};

    const TAKEN: &str = "2027-01-15T08:00:00.000Z";
    const NOW: UnixMillis = UnixMillis(START + 60_000);

    /// A plane with a key and a record, and a backup of it, beside which there is room for more.
    async fn backed_up(with_audit: bool) -> (Plane, TempDir, PathBuf) {
        let plane = Plane::new().await;
        plane.key("kept").await;
        let gateway = plane.token("gateway").await;
        plane.deliver(&gateway, vec![record(0, START, None)]).await;
        let room = tempfile::tempdir().unwrap();
        let backup = room.path().join("backup");
        back_up(plane.folder(), &backup, with_audit, TAKEN.to_owned()).await.unwrap();
        (plane, room, backup)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    async fn keys_and_records(folder: &Path) -> (usize, usize) {
        let storage = Storage::open(folder).await.unwrap();
        let keys = storage.main.keys(&crate::storage::KeyFilter::default(), None, 9).await.unwrap().len();
        let records =
            storage.audit.audit_entries(&crate::storage::AuditFilter::default(), None, 9).await.unwrap();
        storage.close().await;
        (keys, records.len())
    }

    #[tokio::test]
    async fn a_backup_is_private_whole_and_taken_while_a_process_works() {
        let (plane, room, backup) = backed_up(true).await;
        assert_eq!(names(&backup), [AUDIT_FILE, MANIFEST_FILE, MAIN_FILE]);
        assert_eq!(names(room.path()), ["backup"]);
        assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o700);
        for name in names(&backup) {
            assert_eq!(
                fs::metadata(backup.join(&name)).unwrap().permissions().mode() & 0o777,
                0o600,
                "{name}"
            );
        }
        let error = back_up(plane.folder(), &backup, true, TAKEN.to_owned()).await.unwrap_err();
        assert!(matches!(error, BackupError::Exists(_)), "{error}");
        let error = back_up(room.path(), &room.path().join("b"), true, TAKEN.to_owned()).await.unwrap_err();
        assert!(matches!(error, BackupError::NoDatabase(_)), "{error}");
        fs::create_dir(room.path().join("c.unfinished")).unwrap();
        let error =
            back_up(plane.folder(), &room.path().join("c"), true, TAKEN.to_owned()).await.unwrap_err();
        assert!(matches!(error, BackupError::Unfinished(_)), "{error}");
    }

    #[tokio::test]
    async fn a_backup_that_fails_leaves_nothing() {
        let (plane, room, _) = backed_up(true).await;
        fs::write(room.path().join(MAIN_FILE), "no database at all").unwrap();
        let to = room.path().join("of-garbage");
        assert!(back_up(room.path(), &to, false, TAKEN.to_owned()).await.is_err());
        assert_eq!(names(room.path()), ["backup", MAIN_FILE]);
        drop(plane);
    }

    #[tokio::test]
    async fn a_restored_version_is_above_any_that_gateways_hold() {
        let (plane, room, backup) = backed_up(true).await;
        let target = room.path().join("new");
        let restored = restore(&backup, &target, false, NOW).await.unwrap();
        assert_eq!((restored.installation, restored.aside), (plane.app.installation.id, None));
        assert!(restored.snapshot_version > NOW.0 + MAX_LEAD_MS);
        assert_eq!(names(&target), [AUDIT_FILE, "lock", MAIN_FILE]);
        assert_eq!(keys_and_records(&target).await, (1, 1));
        assert_eq!(last_version(&target).await, Some(restored.snapshot_version));
        // Again at the same instant, over the one that was restored.
        let again = restore(&backup, &target, true, NOW).await.unwrap();
        assert_eq!(again.snapshot_version, restored.snapshot_version + 1);
    }

    #[tokio::test]
    async fn what_was_there_is_moved_aside_only_when_that_is_asked_for() {
        let (plane, room, backup) = backed_up(false).await;
        plane.key("later").await;
        let error = restore(&backup, plane.folder(), true, NOW).await.unwrap_err();
        assert!(error.to_string().contains("another omf process"), "{error}");
        let folder = room.path().join("data");
        fs::create_dir(&folder).unwrap();
        for name in [MAIN_FILE, AUDIT_FILE] {
            fs::copy(plane.folder().join(name), folder.join(name)).unwrap();
            fs::copy(plane.folder().join(format!("{name}-wal")), folder.join(format!("{name}-wal"))).unwrap();
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
        drop(plane);
    }

    #[tokio::test]
    async fn a_backup_with_a_trigger_of_somebody_else_is_refused() {
        let (_plane, room, backup) = backed_up(true).await;
        let target = room.path().join("new");
        for name in [MAIN_FILE, AUDIT_FILE] {
            let path = backup.join(name);
            let before = fs::read(&path).unwrap();
            let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
            let table = if name == MAIN_FILE { "events" } else { "audit_gaps" };
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

    /// Writes size and digest of a file into the manifest, as whoever can change the one can.
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
    async fn what_is_not_whole_is_refused_before_anything_is_touched() {
        let (plane, room, backup) = backed_up(true).await;
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
        // A copy whose digest was made to fit.
        let digests = |bytes: &[u8]| omniflow_policy::digest::Digest::of(bytes).to_hex();
        let mut broken = good.clone();
        broken[4096 + 8..4096 + 64].fill(0xff);
        fs::write(backup.join(AUDIT_FILE), &broken).unwrap();
        fs::write(backup.join(MANIFEST_FILE), manifest.replace(&digests(&good), &digests(&broken))).unwrap();
        refused("restore another backup").await;
        fs::write(backup.join(AUDIT_FILE), &good).unwrap();
        let other = manifest.replace(&plane.app.installation.id.to_string(), &Uuid::nil().to_string());
        for (text, why) in [
            (other, "not of the installation"),
            (manifest.replace("\"format\": 1", "\"format\": 2"), "format is 2"),
            (manifest.replace("omniflow.db", "../omniflow.db"), "files are not"),
            (manifest.replace("omniflow.db", "other.db"), "files are not"),
            (manifest.replace("audit.db", "omniflow.db"), "each once"),
            (manifest.replace("2027-01-15", "2027-01-16"), "clock"),
            (manifest.replace("2027-01-15T", "yesterday"), "taken_at is not a time"),
            ("{}".to_owned(), "missing field"),
        ] {
            fs::write(backup.join(MANIFEST_FILE), text).unwrap();
            refused(why).await;
        }
        for (name, why) in [(MANIFEST_FILE, "is no backup"), (AUDIT_FILE, "is damaged")] {
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

    /// Sets the version that a database says it published last.
    async fn publish(database: &Path, version: i64) {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
        let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
        let set = sqlx::query("UPDATE installation SET snapshot_version = ?").bind(version);
        set.execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_version_that_nobody_published_is_not_gone_by() {
        let (_plane, room, backup) = backed_up(false).await;
        let folder = room.path().join("data");
        let mut expected = restore(&backup, &folder, false, NOW).await.unwrap().snapshot_version;
        let most = MAX_REPORTED_VERSION.cast_signed();
        for (there, counts) in [(expected as i64, true), (most - 1, true), (most, false), (-1, false)] {
            publish(&folder.join(MAIN_FILE), there).await;
            let restored = restore(&backup, &folder, true, NOW).await.unwrap();
            expected = if counts { there.cast_unsigned() + 1 } else { NOW.0 + MAX_LEAD_MS + 1 };
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
    async fn a_restore_is_in_the_trail() {
        let (_plane, room, backup) = backed_up(false).await;
        let folder = room.path().join("data");
        let first = restore(&backup, &folder, false, NOW).await.unwrap().snapshot_version;
        let second = restore(&backup, &folder, true, NOW).await.unwrap().snapshot_version;
        let storage = Storage::open(&folder).await.unwrap();
        let noted = storage.main.events(&crate::storage::EventFilter::default(), None, 1).await.unwrap();
        let noted = &noted[0].noted;
        assert_eq!((noted.action, noted.time), (Action::InstallationRestored, NOW));
        assert_eq!(noted.actor, Actor { id: None, name: "omf db restore".to_owned() });
        assert_eq!(noted.before, Some(json!({"snapshot_version": first})));
        let after = json!({"backup_taken_at": TAKEN, "snapshot_version": second});
        assert_eq!(noted.after, Some(after));
    }

    #[tokio::test]
    async fn what_keeps_a_backup_from_being_taken_is_told_once() {
        let (plane, room, _) = backed_up(false).await;
        let data = room.path().join("data");
        drop(Storage::open(&data).await.unwrap());
        let error = back_up(&data, &room.path().join("b"), true, TAKEN.to_owned()).await.unwrap_err();
        assert!(matches!(error, BackupError::NoInstallation(_)), "{error}");
        let missing = room.path().join("missing");
        let error = back_up(plane.folder(), &missing.join("b"), true, TAKEN.to_owned()).await.unwrap_err();
        assert!(matches!(&error, BackupError::NoFolder(path) if *path == missing), "{error}");
    }

    /// Wherever a restore is interrupted after its decision, the next start brings it to its end.
    #[tokio::test]
    async fn an_interrupted_restore_is_finished_by_the_next_start() {
        let (plane, room, backup) = backed_up(true).await;
        plane.key("later").await;
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
                [&|| aside(MAIN_FILE), &|| install(MAIN_FILE), &|| aside(AUDIT_FILE), &|| {
                    install(AUDIT_FILE)
                }];
            for step in &steps[..interrupted_after] {
                step().unwrap();
            }
            assert_eq!(keys_and_records(&folder).await, (1, 1));
            assert_eq!(last_version(&folder).await, Some(NOW.0 + 1 + MAX_LEAD_MS + 1), "{interrupted_after}");
            assert!(!ready.exists());
            let replaced = names(&folder.join("replaced-x"));
            assert!(
                replaced.iter().any(|name| name == MAIN_FILE)
                    && replaced.iter().any(|name| name == AUDIT_FILE)
            );
        }
    }

    #[tokio::test]
    async fn a_gateway_of_the_time_before_takes_the_whole_image() {
        let (plane, room, backup) = backed_up(true).await;
        plane.key("later").await;
        let (held, installation) = (plane.app.publication.version().unwrap(), plane.app.installation.id);
        let target = room.path().join("new");
        restore(&backup, &target, false, NOW).await.unwrap();
        let plane = plane.restart_with(|settings| settings.data_dir = target).await;
        assert_eq!(plane.get("/v1/keys/later").await.status, StatusCode::NOT_FOUND);
        let created = json!({"name": "edge", "role": "gateway"});
        let created = plane.post("/v1/tokens", created).await.expect(StatusCode::CREATED);
        plane.key("new").await;
        let body = json!({
            "gateway": "edge", "incarnation": "000000000000000a", "filter_version": "0.1.0", "snapshot_format": 1,
            "installation": installation, "version": held, "wait_ms": 0, "clock": 1_800_000_000_000_u64,
            "vms": [{"id": "0000000000000001", "version": held}],
        });
        let token = created["secret"].as_str().unwrap();
        let answer = plane.call(request(Method::POST, "/gateway/v1/poll", token, Some(body))).await;
        assert_eq!(answer.headers["content-type"], MANIFEST_MEDIA_TYPE, "no delta leads there");
        let version = plane.app.publication.version().unwrap();
        assert!(version > held + MAX_LEAD_MS, "{version}");
    }
}
