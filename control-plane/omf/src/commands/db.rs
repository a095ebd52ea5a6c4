//! `omf db`: backup and restore. It works on the data directory, without a control plane.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::{Args, Subcommand};
use omniflow_cli::{Answer, Column, Output, cell, table};
use serde::Serialize;
use uuid::Uuid;

use super::serve;
use crate::configuration::{FILE_VARIABLE, Flags, Setting};
use crate::error::describe_store_error;
use omniflow_domain::clock::Clock;
use omniflow_domain::time::format_time;
use omniflow_store_sqlite::{BackupError, BackupFile, Revived, back_up, restore};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Back up the databases. `omf serve` can keep running.
    Backup(Backup),
    /// Replace the databases with a backup. Stop `omf serve` first.
    Restore(Restore),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf db backup /backup/omniflow-$(date +%F) --data-dir /var/lib/omniflow\n  \
    omf db backup /backup/keys --without-audit\n\n\
    The backup is a directory that contains a copy of each database, and backup.json with their digests. The directory\n\
    appears only once it is complete and on disk. It contains every change that was acknowledged before the backup\n\
    began. It does not contain secrets of keys and tokens, only their digests; store admin-token with your other\n\
    secrets.")]
pub(super) struct Backup {
    /// Directory to create
    destination: PathBuf,
    #[command(flatten)]
    data: DataDir,
    /// Exclude the audit log, usually the largest part.
    #[arg(long)]
    without_audit: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf db restore /backup/omniflow-2027-01-31 --data-dir /var/lib/omniflow-new\n  \
    omf db restore /backup/omniflow-2027-01-31 --data-dir /var/lib/omniflow --replace\n\n\
    The backup is verified before anything is changed. Gateways apply the restored state as soon as omf serve runs.\n\
    Changes made after the backup are lost: keys and secrets created since are refused, and keys and tokens revoked\n\
    since are valid again. Revoke them again.")]
pub(super) struct Restore {
    /// Directory that `omf db backup` created
    backup: PathBuf,
    #[command(flatten)]
    data: DataDir,
    /// Move existing databases to a directory named after the current time.
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Args)]
pub(super) struct DataDir {
    #[arg(
        long = Setting::DataDir.flag(),
        value_name = Setting::DataDir.value_name(),
        help = format!(
            "Database directory, as for `omf serve` [env: {}] [default: {}]",
            Setting::DataDir.variable(),
            Setting::DataDir.default_text()
        )
    )]
    data_dir: Option<OsString>,
    #[arg(
        long,
        value_name = "FILE",
        help = format!("Configuration file, as for `omf serve` [env: {FILE_VARIABLE}]")
    )]
    config: Option<PathBuf>,
}

const FILE_COLUMNS: &[Column<BackupFile>] = &[
    ("FILE", |file| cell(&file.name)),
    ("BYTES", |file| cell(file.bytes)),
    ("SHA-256", |file| cell(file.sha256.to_hex())),
];

/// What `omf db restore` reports.
#[derive(Serialize)]
struct Report {
    installation: Uuid,
    taken_at: String,
    with_audit: bool,
    snapshot_version: u64,
    replaced: Option<String>,
    /// Keys and tokens that are valid again; null if unknown.
    revived: Option<RevivedReport>,
}

/// Keys and tokens that were revoked after the backup.
#[derive(Serialize)]
struct RevivedReport {
    keys: Vec<RevivedVersion>,
    tokens: Vec<String>,
}

/// A version of a key that is valid again.
#[derive(Serialize)]
struct RevivedVersion {
    name: String,
    version: u16,
}

pub(super) fn run(command: Command, output: Output) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::Backup(args) => runtime.block_on(run_backup(args, output)),
        Command::Restore(args) => runtime.block_on(run_restore(args, output)),
    }
}

async fn run_backup(args: Backup, output: Output) -> anyhow::Result<()> {
    let Backup { destination, data, without_audit } = args;
    let (data_dir, now) = (data.path()?, format_time(Clock::system().now()));
    let manifest = back_up(&data_dir, &destination, !without_audit, now).await;
    let manifest = manifest.map_err(|error| describe(&error))?;
    let manifest = Answer::new(manifest)?;
    output.print(&manifest, |manifest| table(&manifest.files, FILE_COLUMNS))?;
    if !output.json {
        let manifest = manifest.body();
        eprintln!(
            "Backed up installation {} as of {} to {}. The backup contains neither the owner's token (admin-token) nor the payload keys (payload-key). Back them up separately.",
            manifest.installation,
            manifest.taken_at,
            destination.display()
        );
    }
    Ok(())
}

async fn run_restore(args: Restore, output: Output) -> anyhow::Result<()> {
    let Restore { backup, data, replace } = args;
    let data_dir = data.path()?;
    let restored = restore(&backup, &data_dir, replace, Clock::system().now()).await;
    let restored = restored.map_err(|error| describe(&error))?;
    let report = Report {
        installation: restored.installation,
        taken_at: restored.taken_at,
        with_audit: restored.with_audit,
        snapshot_version: restored.snapshot_version,
        replaced: restored.aside.as_ref().map(|aside| aside.display().to_string()),
        revived: restored.revived.map(RevivedReport::from),
    };
    output.print(&Answer::new(report)?, |report| {
        let mut text = format!(
            "{} now contains installation {} as of {}.\n",
            data_dir.display(),
            report.installation,
            report.taken_at
        );
        if let Some(aside) = &report.replaced {
            text.push_str(&format!("The previous databases are in {aside}.\n"));
        }
        if !report.with_audit {
            text.push_str("The backup contains no audit log, so the audit log is now empty.\n");
        }
        text + &owners_token(&data_dir) + &revived(report.revived.as_ref())
    })
}

/// Lists what to revoke again.
fn revived(report: Option<&RevivedReport>) -> String {
    let Some(RevivedReport { keys, tokens }) = report else {
        return "Keys and tokens that were revoked after the backup are valid again: revoke them again.\n"
            .to_owned();
    };
    if keys.is_empty() && tokens.is_empty() {
        return "Nothing was revoked after the backup.\n".to_owned();
    }
    let mut text =
        "These were revoked after the backup and are valid again. To revoke them again:\n".to_owned();
    for RevivedVersion { name, version } in keys {
        text.push_str(&format!("  omf key revoke {} --version {version}\n", cell(name)));
    }
    for token in tokens {
        text.push_str(&format!("  omf token revoke {}\n", cell(token)));
    }
    text
}

impl From<Revived> for RevivedReport {
    fn from(Revived { versions, tokens }: Revived) -> Self {
        let keys = versions.into_iter().map(|(name, version)| RevivedVersion { name, version });
        Self { keys: keys.collect(), tokens }
    }
}

/// The message of an error, which includes its cause, and the flag to set if the data directory is in use.
fn describe(error: &BackupError) -> anyhow::Error {
    match error {
        BackupError::Storage(error) => anyhow!(describe_store_error(error)),
        error => anyhow!("{error}"),
    }
}

/// Explains which owner's token is valid after the restore. No backup contains it.
fn owners_token(data_dir: &Path) -> String {
    let file = data_dir.join("admin-token");
    let kept = if file.exists() {
        format!("{} was not changed and works only if it contains that token", file.display())
    } else {
        "it is in your own copy, such as admin-token in the data directory that was backed up".to_owned()
    };
    format!("Use the owner's token from the time of the backup. The backup does not contain it: {kept}.\n")
}

// === impl DataDir ===

impl DataDir {
    /// The data directory from the configuration of `omf serve`.
    pub(super) fn path(self) -> anyhow::Result<PathBuf> {
        let values = self.data_dir.map(|path| (Setting::DataDir, path)).into_iter().collect();
        Ok(serve::read(&Flags { file: self.config, values }).data_dir()?)
    }
}
