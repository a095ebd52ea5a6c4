//! `omf db`. It works on the data directory itself and asks no control plane.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::{Args, Subcommand};
use omniflow_cli::{Answer, Column, Output, cell, table};
use serde::Serialize;
use uuid::Uuid;

use super::serve;
use crate::configuration::{FILE_VARIABLE, Flags, Setting};
use omniflow_domain::clock::Clock;
use omniflow_domain::time::format_time;
use omniflow_store_sqlite::BackupFile;
use omniflow_store_sqlite::{Revived, back_up, restore};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Copy the databases while omf serve goes on working on them.
    Backup(Backup),
    /// Put a backup in the place of the databases. omf serve must be stopped.
    Restore(Restore),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf db backup /backup/omniflow-$(date +%F) --data-dir /var/lib/omniflow\n  \
    omf db backup /backup/keys --without-audit\n\n\
    The backup is a folder that appears when all of it is on the disk: a copy of each database and backup.json with\n\
    their digests. It has every change that was answered before it began. The owner's token (admin-token) is not in\n\
    it: keep that where you keep secrets. Keys and tokens are in it as digests only.")]
pub(super) struct Backup {
    /// The folder to make.
    destination: PathBuf,
    #[command(flatten)]
    data: DataDir,
    /// Leave the audit log out. It is most of what there is to copy.
    #[arg(long)]
    without_audit: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf db restore /backup/omniflow-2027-01-31 --data-dir /var/lib/omniflow-new\n  \
    omf db restore /backup/omniflow-2027-01-31 --data-dir /var/lib/omniflow --replace\n\n\
    Nothing is touched before the backup is found whole. Gateways take the restored state as soon as omf serve runs.\n\
    What was changed after the backup is undone: keys and secrets made since are refused; keys and tokens revoked\n\
    since are valid again, so revoke them again.")]
pub(super) struct Restore {
    /// A folder that omf db backup made.
    backup: PathBuf,
    #[command(flatten)]
    data: DataDir,
    /// Move databases that are there aside, into a folder named with the time.
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Args)]
pub(super) struct DataDir {
    #[arg(
        long = Setting::DataDir.flag(),
        value_name = Setting::DataDir.value_name(),
        help = format!(
            "Folder of the databases, as omf serve has it [env: {}] [default: {}]",
            Setting::DataDir.variable(),
            Setting::DataDir.default_text()
        )
    )]
    data_dir: Option<OsString>,
    #[arg(
        long,
        value_name = "FILE",
        help = format!("The file of settings that omf serve has [env: {FILE_VARIABLE}]")
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
    /// What is valid again; null if it is unknown.
    revived: Option<RevivedReport>,
}

/// What was revoked after the backup.
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
    // The message names its cause already.
    let manifest = manifest.map_err(|error| anyhow!("{error}"))?;
    let manifest = Answer::new(manifest)?;
    output.print(&manifest, |manifest| table(&manifest.files, FILE_COLUMNS))?;
    if !output.json {
        let manifest = manifest.body();
        eprintln!(
            "Installation {} as of {} is in {}. Its owner's token and the key of its payloads (payload-key) are not: keep both elsewhere.",
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
    let restored = restored.map_err(|error| anyhow!("{error}"))?;
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
            "{} has installation {} as of {}.\n",
            data_dir.display(),
            report.installation,
            report.taken_at
        );
        if let Some(aside) = &report.replaced {
            text.push_str(&format!("What was there before lies in {aside}.\n"));
        }
        if !report.with_audit {
            text.push_str("The backup has no audit log: it begins anew.\n");
        }
        text + &owners_token(&data_dir) + &revived(report.revived.as_ref())
    })
}

/// What has to be revoked again.
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

/// Which token opens what was restored. No backup has it.
fn owners_token(data_dir: &Path) -> String {
    let file = data_dir.join("admin-token");
    let kept = if file.exists() {
        format!("{} stays as it was and is right if it is of that time", file.display())
    } else {
        "it is where you keep it, such as admin-token in the data directory that was backed up".to_owned()
    };
    format!("The owner's token is the one of the time of the backup, which does not have it: {kept}.\n")
}

// === impl DataDir ===

impl DataDir {
    /// The folder by the configuration that omf serve would read.
    pub(super) fn path(self) -> anyhow::Result<PathBuf> {
        let values = self.data_dir.map(|path| (Setting::DataDir, path)).into_iter().collect();
        Ok(serve::read(&Flags { file: self.config, values }).data_dir()?)
    }
}
