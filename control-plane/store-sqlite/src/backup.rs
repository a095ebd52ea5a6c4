//! Backups of a data directory, taken while a control plane uses it.
//!
//! A backup is a directory: a copy of each database as one read transaction saw it, and `backup.json`, which is written
//! last and lists the copies. It does not contain the owner's token; the databases contain only digests of tokens.
#![expect(clippy::disallowed_methods, reason = "`omf db backup` runs alone in its runtime")]

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use omniflow_policy::digest::{Digest, DigestStream};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use uuid::Uuid;

use omniflow_domain::time::parse_time;
use omniflow_files::private;
use omniflow_store::encoding::Columns;
use omniflow_store::{Result, StoreError};

use crate::database::BUSY_TIMEOUT;
use crate::scanner::quoted;
use crate::{AUDIT_FILE, MAIN_FILE, at};

/// The format of a backup.
const FORMAT: u32 = 1;
/// The manifest of a backup.
pub(crate) const MANIFEST_FILE: &str = "backup.json";
/// Maximum length of a manifest in bytes. The file may come from anyone.
const MANIFEST_BYTES: u64 = 64 * 1024;
/// Size of the copy buffer in bytes.
const COPIED_AT_ONCE: usize = 64 * 1024;

/// The manifest of a backup: the content of `backup.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupManifest {
    format: u32,
    /// The installation.
    pub installation: Uuid,
    /// When the backup began, in RFC 3339. It contains the changes acknowledged before that.
    pub taken_at: String,
    /// The release that wrote it.
    pub release: String,
    /// The databases.
    pub files: Vec<BackupFile>,
}

/// A database in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    /// File name, the same as in the data directory.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the content.
    pub sha256: Digest,
}

/// Why a backup cannot be taken or restored. In both cases, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The databases cannot be read.
    #[error(transparent)]
    Storage(#[from] StoreError),
    /// The data directory has no database.
    #[error("{} does not contain {MAIN_FILE}; choose the data directory of omf serve", .0.display())]
    NoDatabase(PathBuf),
    /// The data directory has no installation yet.
    #[error("{} contains no installation yet; start omf serve once", .0.display())]
    NoInstallation(PathBuf),
    /// The parent of the destination is not a directory.
    #[error("{} is not a directory; create it or choose another destination", .0.display())]
    NoFolder(PathBuf),
    /// The destination exists.
    #[error("{} already exists; choose another destination", .0.display())]
    Exists(PathBuf),
    /// A backup to the same destination is running or was interrupted.
    #[error("{} exists; wait for the backup that is writing it, or remove it if that backup was interrupted", .0.display())]
    Unfinished(PathBuf),
    /// The path is not UTF-8, which SQLite requires.
    #[error("{} is not UTF-8; choose another path", .0.display())]
    Path(PathBuf),
    /// The directory is not a backup of this format.
    #[error("{} is not a backup that this release can read: {reason}", path.display())]
    NoBackup {
        /// The directory.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A database of the backup has changed since it was written.
    #[error("{} is damaged: {reason}; restore another backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The data directory has databases, and replacing them was not requested.
    #[error("{} contains databases; use --replace to move them aside", .0.display())]
    Occupied(PathBuf),
    /// The clock is earlier than the backup, so new versions would be lower than those in it.
    #[error("the backup was taken at {0}, which is in the future by this machine's clock; correct the clock")]
    Clock(String),
}

/// Removes a directory when dropped, unless it is disarmed.
struct Unfinished<'a>(Option<&'a Path>);

/// Backs up the databases in `directory`, which a control plane may be using, to the new directory `destination`. `taken_at` is
/// the current time in RFC 3339.
///
/// The copies are written next to the destination and renamed once all of them are on disk.
pub async fn back_up(
    directory: &Path,
    destination: &Path,
    with_audit: bool,
    taken_at: String,
) -> std::result::Result<BackupManifest, BackupError> {
    if !directory.join(MAIN_FILE).is_file() {
        return Err(BackupError::NoDatabase(directory.to_owned()));
    }
    if destination.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(destination.to_owned()));
    }
    let folder = parent(destination);
    if !folder.is_dir() {
        return Err(BackupError::NoFolder(folder));
    }
    let installation = installation_of(&directory.join(MAIN_FILE)).await?;
    let installation = installation.ok_or_else(|| BackupError::NoInstallation(directory.to_owned()))?;
    let unfinished = beside(destination);
    let made = DirBuilder::new().mode(0o700).create(&unfinished);
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(BackupError::Unfinished(unfinished));
        }
        made => made.map_err(at(&unfinished))?,
    }
    let mut guard = Unfinished(Some(&unfinished));
    // The request log first: every key in it is in the main database, which is copied later.
    let names = if with_audit { &[AUDIT_FILE, MAIN_FILE][..] } else { &[MAIN_FILE] };
    let mut copies = Vec::new();
    for name in names {
        copies.push(copy_database(&directory.join(name), &unfinished.join(name), name).await?);
    }
    let release = env!("CARGO_PKG_VERSION").to_owned();
    let manifest = BackupManifest { format: FORMAT, installation, taken_at, release, files: copies };
    manifest.write(&unfinished)?;
    fs::rename(&unfinished, destination).map_err(at(destination))?;
    guard.0 = None;
    sync_directory(&folder).map_err(at(destination))?;
    Ok(manifest)
}

/// Copies a database as one read transaction sees it, while changes continue.
async fn copy_database(from: &Path, to: &Path, name: &str) -> std::result::Result<BackupFile, BackupError> {
    // An absolute path: SQLite treats a path that begins with "file:" as a URI with parameters.
    let to = &std::path::absolute(to).map_err(at(to))?;
    let text = to.to_str().ok_or_else(|| BackupError::Path(to.to_owned()))?;
    // SQLite accepts an existing file if it is empty, and keeps its mode.
    let file = private::open_private(to).map_err(at(to))?;
    let mut reader = read_only(from).await?;
    // Sorts indexes in the directory of the copy: no other directory may be writable.
    let folder = quoted(to.parent().unwrap_or(to));
    let temporary = sqlx::AssertSqlSafe(format!("PRAGMA temp_store_directory = {folder}"));
    sqlx::query(temporary).execute(&mut reader).await.map_err(StoreError::backend)?;
    let copied = sqlx::query("VACUUM INTO ?").bind(text.to_owned()).execute(&mut reader).await;
    reader.close().await.map_err(StoreError::backend)?;
    copied.map_err(StoreError::backend)?;
    file.sync_all().map_err(at(to))?;
    let (bytes, sha256) = copy(File::open(to).map_err(at(to))?, io::sink()).map_err(at(to))?;
    Ok(BackupFile { name: name.to_owned(), bytes, sha256 })
}

/// Copies a whole stream, and returns its length and digest.
pub(crate) fn copy(mut from: impl Read, mut to: impl Write) -> io::Result<(u64, Digest)> {
    let mut digest = DigestStream::default();
    let mut buffer = vec![0; COPIED_AT_ONCE];
    let mut bytes = 0;
    loop {
        let read = from.read(&mut buffer)?;
        let Some(piece) = buffer.get(..read).filter(|piece| !piece.is_empty()) else {
            return Ok((bytes, digest.finish()));
        };
        digest.update(piece);
        to.write_all(piece)?;
        bytes += piece.len() as u64;
    }
}

/// Opens a regular file: a symbolic link in a backup would lead out of it, and reading a pipe may never end.
pub(crate) fn regular_file(path: &Path) -> io::Result<File> {
    if !path.symlink_metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    File::open(path)
}

pub(crate) async fn read_only(path: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY_TIMEOUT);
    options.connect().await.map_err(StoreError::backend)
}

/// The installation in a database; `None` before the first start is complete.
async fn installation_of(path: &Path) -> Result<Option<Uuid>> {
    let mut reader = read_only(path).await?;
    let read = async {
        let table = sqlx::query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'installation'");
        if table.fetch_optional(&mut reader).await.map_err(StoreError::backend)?.is_none() {
            return Ok(None);
        }
        let row = sqlx::query("SELECT id FROM installation")
            .fetch_optional(&mut reader)
            .await
            .map_err(StoreError::backend)?;
        row.map(|row| row.column(0)).transpose()
    }
    .await;
    reader.close().await.map_err(StoreError::backend)?;
    read
}

/// Makes creations and renames in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The directory that contains a path.
fn parent(path: &Path) -> PathBuf {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// Where a backup is written until it is complete.
fn beside(destination: &Path) -> PathBuf {
    let mut name = destination.file_name().unwrap_or_default().to_owned();
    name.push(".unfinished");
    destination.with_file_name(name)
}

// === impl BackupManifest ===

impl BackupManifest {
    /// Reads and checks the manifest of a backup.
    pub(crate) fn read(backup: &Path) -> std::result::Result<Self, BackupError> {
        let no_backup = |reason: String| BackupError::NoBackup { path: backup.to_owned(), reason };
        let invalid_manifest = |error: io::Error| no_backup(format!("{MANIFEST_FILE}: {error}"));
        let file = regular_file(&backup.join(MANIFEST_FILE)).map_err(invalid_manifest)?;
        let mut text = Vec::new();
        file.take(MANIFEST_BYTES).read_to_end(&mut text).map_err(invalid_manifest)?;
        let manifest: Self =
            serde_json::from_slice(&text).map_err(|error| no_backup(format!("{MANIFEST_FILE}: {error}")))?;
        if manifest.format != FORMAT {
            return Err(no_backup(format!("its format is {}, not {FORMAT}", manifest.format)));
        }
        if parse_time(&manifest.taken_at).is_none() {
            return Err(no_backup("taken_at is not a time".to_owned()));
        }
        // Names become paths, so only these two are allowed.
        let mut names: Vec<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
        names.sort_unstable();
        if names != [MAIN_FILE] && names != [AUDIT_FILE, MAIN_FILE] {
            return Err(no_backup(format!("it must list {MAIN_FILE} and {AUDIT_FILE}, each once")));
        }
        Ok(manifest)
    }

    fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(MANIFEST_FILE);
        let text = serde_json::to_string_pretty(self).map_err(|error| at(&path)(error.into()))?;
        private::write_private(&path, &(text + "\n")).map_err(at(&path))?;
        sync_directory(folder).map_err(at(folder))
    }
}

// === impl Unfinished ===

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0
            && let Err(error) = fs::remove_dir_all(path)
        {
            tracing::warn!(path = %path.display(), %error, "removing the incomplete backup failed");
        }
    }
}
