//! Output of a new secret: on standard output, alone or not, or in a private file.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{Write, stdout};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use super::output::{Output, printable_lines};

/// The file name of standard output.
const STANDARD_OUTPUT: &str = "-";
/// Mode bits that let the group or other users read a file.
const READABLE_BY_OTHERS: u32 = 0o044;

/// Arguments of a command that creates a secret.
#[derive(Debug, Args)]
pub struct SecretArgs {
    /// Write only the secret to a new private file, or to standard output with -.
    ///
    /// The file is readable only by its owner and contains no trailing newline, because secret managers store their
    /// input unchanged. With --json and a file, the rest of the response is printed as JSON.
    #[arg(long, value_name = "FILE")]
    output_file: Option<PathBuf>,
}

/// The destination of a secret that is about to be created.
#[derive(Debug)]
pub enum SecretOutput {
    /// Standard output, with the rest of the result.
    Printed,
    /// Standard output, only the secret.
    Bare,
    /// A new file.
    File(NewFile),
}

/// A file that is removed on drop unless the secret was written.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    path: PathBuf,
    written: bool,
}

// === impl SecretArgs ===

impl SecretArgs {
    /// Opens the destination before the secret is created, since a secret that cannot be written would be lost, and one
    /// in a file that other users can read would be disclosed.
    pub fn open(self, output: Output) -> anyhow::Result<SecretOutput> {
        if self.output_file.as_deref().is_none_or(|path| path == Path::new(STANDARD_OUTPUT)) {
            check_private(&standard_output()?)?;
        }
        match self.output_file {
            None => Ok(SecretOutput::Printed),
            Some(path) if path == Path::new(STANDARD_OUTPUT) => {
                if output.json {
                    bail!("--json and --output-file - both use standard output: remove one of them");
                }
                Ok(SecretOutput::Bare)
            }
            Some(path) => Ok(SecretOutput::File(NewFile::create(path)?)),
        }
    }
}

// === impl SecretOutput ===

impl SecretOutput {
    /// Writes the secret of a response, whose JSON is `answer`. Returns the path of its file; `None` for standard output.
    pub fn deliver(self, secret: &str, answer: &Value, output: Output) -> anyhow::Result<Option<PathBuf>> {
        match self {
            Self::Printed => print(secret, answer, output)?,
            Self::Bare => {
                let mut stdout = stdout();
                stdout.write_all(secret.as_bytes())?;
                stdout.flush()?;
            }
            Self::File(file) => {
                let path = file.path.clone();
                if let Err(error) = file.write(secret) {
                    // The secret exists and cannot be retrieved again.
                    print(secret, answer, output)?;
                    let reason =
                        format!("{}: the secret was printed to standard output instead", path.display());
                    return Err(error).context(reason);
                }
                if output.json {
                    output.print_json(&without_secret(answer.clone()))?;
                }
                return Ok(Some(path));
            }
        }
        Ok(None)
    }
}

/// Prints only the secret as text, or the whole response as JSON.
fn print(secret: &str, answer: &Value, output: Output) -> anyhow::Result<()> {
    if output.json { output.print_json(answer) } else { output.print_text(&printable_lines(secret)) }
}

fn standard_output() -> anyhow::Result<Metadata> {
    Ok(File::from(stdout().as_fd().try_clone_to_owned()?).metadata()?)
}

/// Rejects a file that other users can read. Terminals and pipes are accepted.
fn check_private(output: &Metadata) -> anyhow::Result<()> {
    let mode = output.permissions().mode() & 0o777;
    if output.is_file() && mode & READABLE_BY_OTHERS != 0 {
        bail!(
            "standard output is a file that other users can read (mode {mode:03o}), so no secret was requested: use \
             --output-file, which creates a private file, or run umask 077 first"
        );
    }
    Ok(())
}

/// Removes the member `secret` of a response.
pub(crate) fn without_secret(mut answer: Value) -> Value {
    if let Some(answer) = answer.as_object_mut() {
        answer.remove("secret");
    }
    answer
}

/// A sentence about where the secret is.
pub fn secret_location(file: Option<&Path>) -> String {
    match file {
        None => "The secret is shown only once and is not stored.".to_owned(),
        Some(file) => format!("The secret is stored only in {}.", file.display()),
    }
}

// === impl NewFile ===

impl NewFile {
    #[expect(clippy::disallowed_methods, reason = "commands are synchronous")]
    fn create(path: PathBuf) -> anyhow::Result<Self> {
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = opened.with_context(|| {
            format!(
                "cannot create {} for the secret, so none was requested: specify a path that does not exist yet",
                path.display()
            )
        })?;
        Ok(Self { file, path, written: false })
    }

    fn write(mut self, secret: &str) -> std::io::Result<()> {
        self.file.write_all(secret.as_bytes())?;
        self.file.sync_all()?;
        self.written = true;
        Ok(())
    }
}

impl Drop for NewFile {
    #[expect(clippy::disallowed_methods, reason = "commands are synchronous")]
    fn drop(&mut self) {
        if !self.written
            && let Err(error) = fs::remove_file(&self.path)
        {
            eprintln!("warning: cannot remove {}, which contains no secret: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;

    const TABLES: Output = Output { json: false };

    fn to(path: &Path) -> SecretArgs {
        SecretArgs { output_file: Some(path.to_owned()) }
    }

    #[test]
    fn a_secret_is_written_alone_to_a_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let place = to(&path).open(TABLES).unwrap();
        let answer = json!({"key": {}, "secret": "s3cret"});
        assert_eq!(place.deliver("s3cret", &answer, TABLES).unwrap(), Some(path.clone()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "s3cret");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = format!("{:#}", to(&path).open(TABLES).unwrap_err());
        assert!(error.contains("none was requested") && error.contains("exists"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "s3cret");
    }

    #[test]
    fn a_failed_call_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let place = to(&path).open(TABLES).unwrap();
        assert!(path.exists());
        drop(place);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_cannot_be_written_is_reported_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "").unwrap();
        let place = SecretOutput::File(NewFile {
            file: File::open(&path).unwrap(),
            path: path.clone(),
            written: false,
        });
        let error = place.deliver("s3cret", &json!({"secret": "s3cret"}), TABLES).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("to standard output instead") && !error.contains("s3cret"), "{error}");
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_others_can_read_is_no_place_for_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("redirected");
        fs::write(&path, "").unwrap();
        for (mode, accepted) in [(0o600, true), (0o620, true), (0o640, false), (0o604, false), (0o644, false)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let checked = check_private(&fs::metadata(&path).unwrap()).map_err(|error| error.to_string());
            assert_eq!(checked.is_ok(), accepted, "{mode:o}");
            assert!(checked.err().is_none_or(|error| error.contains("--output-file")), "{mode:o}");
        }
        assert!(check_private(&fs::metadata("/dev/null").unwrap()).is_ok());
    }

    #[test]
    fn standard_output_is_used_once() {
        assert!(to(Path::new("-")).open(Output { json: true }).is_err());
        assert!(matches!(to(Path::new("-")).open(TABLES).unwrap(), SecretOutput::Bare));
    }
}
