//! Checks of a configuration that need no running control plane.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use omniflow_policy::time::UnixMillis;

use super::{Resolution, Setting};
use crate::error::describe_store_error;
use omniflow_http_client::read_ca_file;
use omniflow_net::tls::{self, Certificate, TlsFiles};
use omniflow_outbound::otlp;
use omniflow_outbound::webhook::SigningKey;
use omniflow_service::vault;
use omniflow_store_sqlite::check_release;

/// Checks the files and directories that a configuration names, adds problems and warnings, and returns the certificate. To
/// check that the data directory, or the one it would be created in, is writable, it creates a file there and removes it.
pub(crate) fn probe(resolution: &mut Resolution, now: UnixMillis) -> Option<Certificate> {
    // The paths are in the file.
    if resolution.is_file_unread {
        return None;
    }
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let mut report = |setting: Setting, what: String| {
        problems.extend(resolution.resolved(setting).map(|resolved| resolved.problem(&what)));
    };
    let data_dir = resolution.path(Setting::DataDir);
    if let Some((folder, error)) = data_dir.as_deref().and_then(|folder| usable(folder).err()) {
        report(Setting::DataDir, unwritable(&folder, &error));
    }
    if let Some(Err(error)) = data_dir.as_deref().map(openable) {
        report(Setting::DataDir, error);
    }
    // Only the first start writes the token.
    let first = !data_dir.is_some_and(|folder| folder.join("omniflow.db").exists());
    let token_file = resolution.path(Setting::AdminTokenFile).filter(|_| first);
    if let Some(folder) = token_file.as_deref().map(folder_of)
        && let Err(error) = writable(folder)
    {
        report(Setting::AdminTokenFile, unwritable(folder, &error));
    }
    if let Some(file) = resolution.path(Setting::PayloadKeyFile)
        && let Err(error) = vault::check_key_file(&file)
    {
        report(Setting::PayloadKeyFile, error.to_string());
    }
    // A missing URL is already reported.
    if let Some(path) = resolution.path(Setting::WebhookSecretFile)
        && let Err(error) = SigningKey::read(&path)
    {
        report(Setting::WebhookSecretFile, error.to_string());
    }
    if let Some(path) = resolution.path(Setting::OtlpHeadersFile)
        && let Err(error) = otlp::read_headers(&path)
    {
        report(Setting::OtlpHeadersFile, error.to_string());
    }
    if let Some(path) = resolution.path(Setting::OtlpCaFile)
        && let Err(error) = read_ca_file(&path)
    {
        report(Setting::OtlpCaFile, format!("{error}; choose another file"));
    }
    let tls = resolution.path(Setting::TlsCertificate).zip(resolution.path(Setting::TlsKey));
    let files = tls.map(|(certificate, key)| TlsFiles { certificate, key });
    let certificate = files.and_then(|files| match tls::load(&files) {
        Ok(loaded) => {
            warnings = loaded.warnings;
            if let Some(what) = loaded.certificate.unfit_at(now) {
                report(Setting::TlsCertificate, what);
            }
            Some(loaded.certificate)
        }
        Err(error) => {
            let mut errors = tls::unreadable(&files);
            if errors.is_empty() {
                errors.push(error);
            }
            for error in errors {
                let setting = if error.concerns_key() { Setting::TlsKey } else { Setting::TlsCertificate };
                report(setting, error.to_string());
            }
            None
        }
    });
    resolution.problems.extend(problems);
    resolution.warn(Setting::TlsCertificate, warnings.iter().map(ToString::to_string));
    certificate
}

fn unwritable(folder: &Path, error: &io::Error) -> String {
    format!("{}: {error}; choose a writable directory", folder.display())
}

/// The parent directory of a path; the current directory for a bare file name.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Whether this release can open the databases of the data directory.
fn openable(data_dir: &Path) -> Result<(), String> {
    // On a separate thread, because this one may belong to a runtime.
    std::thread::scope(|scope| {
        let check = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            runtime.block_on(check_release(data_dir)).map_err(|error| describe_store_error(&error))
        });
        check.join().unwrap_or_else(|_| Err("its databases cannot be checked".to_owned()))
    })
}

/// Whether the data directory is writable, or can be created.
#[expect(clippy::disallowed_methods, reason = "`omf config check` is synchronous")]
fn usable(data_dir: &Path) -> Result<(), (PathBuf, io::Error)> {
    let mut folder = data_dir;
    while let Err(error) = fs::metadata(folder) {
        // The error is different for an ancestor that is a file than for one that does not exist.
        if error.kind() != io::ErrorKind::NotFound || folder.parent().is_none() {
            return Err((folder.to_owned(), error));
        }
        folder = folder_of(folder);
    }
    writable(folder).map_err(|error| (folder.to_owned(), error))
}

#[expect(clippy::disallowed_methods, reason = "`omf config check` is synchronous")]
fn writable(folder: &Path) -> io::Result<()> {
    let mut name = OsString::from(".omf-config-check-");
    name.push(std::process::id().to_string());
    let path = folder.join(name);
    fs::File::create_new(&path)?;
    fs::remove_file(path)
}
