//! Replaces the databases of a data directory with a backup, completely or not at all.
//!
//! The copies are prepared and checked in the directory `restoring`. Renaming it to `restored` is the point of no return: from
//! then on, opening the data directory finishes the restore, even after a crash.
#![expect(
    clippy::disallowed_methods,
    reason = "runs alone: in `omf db restore`, or before the store is opened"
)]

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use omniflow_policy::time::UnixMillis;
use serde_json::json;
use sqlx::Connection;
use uuid::Uuid;

use omniflow_domain::admin_event::{Action, NewAdminEvent, PrincipalRef, Subject};
use omniflow_domain::time::parse_time;
use omniflow_domain::version::{MAX_REPORTED_VERSION, RESTORE_LEAD_MS};
use omniflow_files::private;
use omniflow_store::encoding::Columns;
use omniflow_store::{
    AdminLogWrites, InstallationStore, InstallationWrites, Result, SessionWrites, Store, StoreError,
};

use crate::backup::{BackupError, BackupManifest, copy, read_only, regular_file, sync_directory};
use crate::{AUDIT_FILE, MAIN_FILE, SqliteStore, at, lock, schema_check};

mod revived;

pub use self::revived::Revived;

/// Copies in preparation; worthless after an interruption.
const STAGING: &str = "restoring";
/// Complete copies, which replace the databases.
const READY: &str = "restored";
/// In [`STAGING`]: new databases, whose schema is compared with that of the copies.
const SCRATCH: &str = "new";
/// In [`READY`]: the name of the directory that the replaced databases are moved to.
const ASIDE_FILE: &str = "aside";

/// The principal of a restore in the admin log. A restore needs no token.
const PRINCIPAL: &str = "omf db restore";

/// A completed restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The installation.
    pub installation: Uuid,
    /// When the backup was taken, in RFC 3339.
    pub taken_at: String,
    /// Whether the backup contained the request log. If not, the log is empty.
    pub with_audit: bool,
    /// Where the replaced databases are.
    pub aside: Option<PathBuf>,
    /// The version of the next snapshot.
    pub snapshot_version: u64,
    /// The keys and tokens that the restore made valid again; `None` if no replaced database can be read.
    pub revived: Option<Revived>,
}

/// Replaces the databases in `directory`, which no process may be using, with the backup. Existing databases are moved aside if
/// `replace` is set.
pub async fn restore(
    backup: &Path,
    directory: &Path,
    replace: bool,
    now: UnixMillis,
) -> std::result::Result<Restored, BackupError> {
    let manifest = BackupManifest::read(backup)?;
    if parse_time(&manifest.taken_at).is_none_or(|taken| taken > now) {
        return Err(BackupError::Clock(manifest.taken_at));
    }
    private::make_private_directory(directory).map_err(at(directory))?;
    let _lock = lock(directory)?;
    finish(directory)?;
    let occupied = [MAIN_FILE, AUDIT_FILE].iter().any(|name| directory.join(name).exists());
    if occupied && !replace {
        return Err(BackupError::Occupied(directory.to_owned()));
    }
    let staging = directory.join(STAGING);
    // Left by an interrupted restore.
    if staging.exists() {
        fs::remove_dir_all(&staging).map_err(at(&staging))?;
    }
    private::make_private_directory(&staging).map_err(at(&staging))?;
    let staged = stage(backup, &manifest, (&staging, directory), now).await;
    let (snapshot_version, revived) = match staged {
        Ok(staged) => staged,
        Err(error) => {
            fs::remove_dir_all(&staging).map_err(at(&staging))?;
            return Err(error);
        }
    };
    let aside = aside_name(directory, now);
    private::write_private(&staging.join(ASIDE_FILE), &aside).map_err(at(&staging))?;
    sync_directory(&staging).map_err(at(&staging))?;
    fs::rename(&staging, directory.join(READY)).map_err(at(&staging))?;
    finish(directory)?;
    Ok(Restored {
        installation: manifest.installation,
        with_audit: manifest.files.iter().any(|file| file.name == AUDIT_FILE),
        taken_at: manifest.taken_at,
        aside: occupied.then(|| directory.join(aside)),
        snapshot_version,
        revived,
    })
}

/// Copies the databases, checks and migrates them, and sets the version of the next snapshot. Returns that version, and what
/// is valid again in comparison with the databases in `directory`.
async fn stage(
    backup: &Path,
    manifest: &BackupManifest,
    (staging, directory): (&Path, &Path),
    now: UnixMillis,
) -> std::result::Result<(u64, Option<Revived>), BackupError> {
    for file in &manifest.files {
        let (from, to) = (backup.join(&file.name), staging.join(&file.name));
        let target = private::open_private(&to).map_err(at(&to))?;
        let damaged = |reason| BackupError::Damaged { path: from.clone(), reason };
        let source = regular_file(&from).map_err(|error| damaged(error.to_string()))?;
        // Reading one byte more than expected detects a longer file without filling the disk.
        let source = source.take(file.bytes.saturating_add(1));
        let (bytes, sha256) = copy(source, &target).map_err(at(&from))?;
        target.sync_all().map_err(at(&to))?;
        if (bytes, sha256) != (file.bytes, file.sha256) {
            return Err(damaged("its digest differs from the one in backup.json".to_owned()));
        }
        let fault = fault(&to).await.unwrap_or_else(|error| Some(error.to_string()));
        if let Some(reason) = fault {
            return Err(damaged(reason));
        }
    }
    let store = SqliteStore::open(staging).await?;
    let foreign = schema_check::foreign(&store, &staging.join(SCRATCH)).await?;
    let mut revived = None;
    let set = match foreign {
        None => {
            // Unreadable databases may be the reason for the restore.
            revived = Revived::read(&staging.join(MAIN_FILE), &directory.join(MAIN_FILE)).await.ok();
            let last_version = last_version(directory).await;
            set_version(&store, manifest, (last_version, revived.as_ref()), now).await
        }
        Some(_) => Ok(Err("it contains a trigger, table or index that no release creates".to_owned())),
    };
    store.close().await;
    let file = foreign.unwrap_or(MAIN_FILE);
    let damaged = |reason| BackupError::Damaged { path: backup.join(file), reason };
    let version = set?.map_err(damaged)?;
    for name in [MAIN_FILE, AUDIT_FILE] {
        // Only the databases are moved into place, so nothing may be left in their write-ahead logs.
        let log = staging.join(format!("{name}-wal"));
        if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            return Err(at(&log)(io::Error::other("not checkpointed into its database; retry")).into());
        }
    }
    Ok((version, revived))
}

/// Sets the version above every version that a gateway can have (see "A restore" in docs/ARCHITECTURE.md), and adds the restore
/// to the admin log. The inner error is the reason why the database does not match the manifest.
async fn set_version(
    store: &SqliteStore,
    manifest: &BackupManifest,
    (last_version, revived): (Option<u64>, Option<&Revived>),
    now: UnixMillis,
) -> Result<std::result::Result<u64, String>> {
    let stored = store.installation().await?;
    let Some(stored) = stored.filter(|stored| stored.id == manifest.installation) else {
        return Ok(Err(format!("it does not belong to installation {}", manifest.installation)));
    };
    if !can_follow(stored.snapshot_version) {
        return Ok(Err("its snapshot version is higher than any published one".to_owned()));
    }
    let plausible = now.0.saturating_add(RESTORE_LEAD_MS);
    let version = stored.snapshot_version.max(last_version.unwrap_or(0)).max(plausible).saturating_add(1);
    let mut after = revived.map(Revived::fields).unwrap_or_default();
    after.insert("backup_taken_at".to_owned(), manifest.taken_at.as_str().into());
    after.insert("snapshot_version".to_owned(), version.into());
    let event = NewAdminEvent {
        time: now,
        principal: PrincipalRef { id: None, name: PRINCIPAL.to_owned() },
        action: Action::InstallationRestored,
        subject: Subject { id: stored.id.to_string(), name: stored.key_prefix.as_str().to_owned() },
        before: last_version.map(|version| json!({"snapshot_version": version})),
        after: Some(after.into()),
    };
    let mut transaction = store.main.begin().await?;
    transaction.set_snapshot_version(version, now).await?;
    // Users who have signed out since the backup stay signed out.
    transaction.purge_sessions((UnixMillis(u64::MAX), UnixMillis(u64::MAX))).await?;
    transaction.insert_admin_event(&event).await?;
    transaction.commit().await?;
    Ok(Ok(version))
}

/// Whether another version may follow this one. No control plane counts higher, and gateways could not report a higher
/// version.
fn can_follow(version: u64) -> bool {
    version < MAX_REPORTED_VERSION
}

/// The first error that SQLite finds in a database.
async fn fault(path: &Path) -> Result<Option<String>> {
    let mut reader = read_only(path).await?;
    let found = async {
        let integrity: String = sqlx::query("PRAGMA integrity_check")
            .fetch_one(&mut reader)
            .await
            .map_err(StoreError::backend)?
            .column(0)?;
        if integrity != "ok" {
            return Ok(Some(integrity));
        }
        let orphan = sqlx::query("PRAGMA foreign_key_check")
            .fetch_optional(&mut reader)
            .await
            .map_err(StoreError::backend)?;
        Ok(orphan.map(|_| "a row refers to a missing one".to_owned()))
    }
    .await;
    reader.close().await.map_err(StoreError::backend)?;
    found
}

/// The last published version of the existing databases; `None` if there are none or they cannot be read: they may be the reason
/// for the restore.
async fn last_version(directory: &Path) -> Option<u64> {
    let path = directory.join(MAIN_FILE);
    if !path.exists() {
        return None;
    }
    let read = async {
        let mut reader = read_only(&path).await?;
        let row = sqlx::query("SELECT snapshot_version FROM installation").fetch_one(&mut reader).await;
        reader.close().await.map_err(StoreError::backend)?;
        row.map_err(StoreError::backend)?.column::<i64>(0)
    };
    u64::try_from(read.await.ok()?).ok().filter(|version| can_follow(*version))
}

/// A name that is not taken.
fn aside_name(directory: &Path, now: UnixMillis) -> String {
    let time: String =
        omniflow_domain::time::format_time(now).chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let mut name = format!("replaced-{time}");
    while directory.join(&name).exists() {
        name.push('_');
    }
    name
}

/// Finishes a restore that is past the point of no return. The caller holds the lock. If this is interrupted, the next call
/// continues: while a copy has not been moved, the database of its name is still the old one.
pub(crate) fn finish(directory: &Path) -> Result<()> {
    let ready = directory.join(READY);
    if !ready.exists() {
        return Ok(());
    }
    // If the rename were lost after databases were moved, nothing would restore the missing ones.
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

/// Moves a database with its write-ahead log, which contains the last commits.
fn move_aside(directory: &Path, name: &str, aside: &Path) -> Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let file = format!("{name}{suffix}");
        let from = directory.join(&file);
        if from.exists() {
            private::make_private_directory(aside).map_err(at(aside))?;
            fs::rename(&from, aside.join(&file)).map_err(at(&from))?;
        }
    }
    if aside.exists() { sync_directory(aside).map_err(at(aside)) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
