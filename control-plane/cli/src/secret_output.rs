//! Where a new secret goes: to standard output with what belongs to it, alone, or into a private file.

use std::fs::{self, File, OpenOptions};
use std::io::{Write, stdout};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use super::output::{Output, cell};

/// The file name of standard output.
const STANDARD_OUTPUT: &str = "-";

/// Arguments of a command that makes a secret.
#[derive(Debug, Args)]
pub struct SecretArgs {
    /// Write the secret alone into this new file, which only its owner may read; - for standard output.
    ///
    /// Nothing stands around it, not even an end of line: secret managers take what they are given as it is. With
    /// --json and a file, the rest of the answer is printed as JSON.
    #[arg(long, value_name = "FILE")]
    output_file: Option<PathBuf>,
}

/// A place for a secret that is about to be made.
#[derive(Debug)]
pub enum SecretOutput {
    /// Standard output, with what is printed anyway.
    Printed,
    /// Standard output, the secret alone.
    Bare,
    /// A file that was made for it.
    File(NewFile),
}

/// A file that goes away again unless a secret is in it.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    path: PathBuf,
    written: bool,
}

// === impl SecretArgs ===

impl SecretArgs {
    /// Makes sure of the place before the secret is made: what cannot be written would be lost.
    pub fn open(self, output: Output) -> anyhow::Result<SecretOutput> {
        match self.output_file {
            None => Ok(SecretOutput::Printed),
            Some(path) if path == Path::new(STANDARD_OUTPUT) => {
                if output.json {
                    bail!("--json and --output-file - both take standard output: leave one of them out");
                }
                Ok(SecretOutput::Bare)
            }
            Some(path) => Ok(SecretOutput::File(NewFile::create(path)?)),
        }
    }
}

// === impl SecretOutput ===

impl SecretOutput {
    /// Writes the secret of an answer, whose JSON is `answer`. Returns the file that holds it, if that is not standard
    /// output.
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
                    // It exists and can be had nowhere else.
                    print(secret, answer, output)?;
                    let reason = format!("{}: the secret is on standard output instead", path.display());
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

/// The secret alone for people, the whole answer for programs.
fn print(secret: &str, answer: &Value, output: Output) -> anyhow::Result<()> {
    if output.json { output.print_json(answer) } else { output.print_text(&cell(secret)) }
}

/// An answer without its member `secret`.
pub(crate) fn without_secret(mut answer: Value) -> Value {
    if let Some(answer) = answer.as_object_mut() {
        answer.remove("secret");
    }
    answer
}

/// Where a person finds the secret, for the note behind it.
pub fn whereabouts(file: Option<&Path>) -> String {
    match file {
        None => "It is shown this once and stored nowhere.".to_owned(),
        Some(file) => format!("It lies in {} and nowhere else.", file.display()),
    }
}

// === impl NewFile ===

impl NewFile {
    #[expect(clippy::disallowed_methods, reason = "commands are synchronous")]
    fn create(path: PathBuf) -> anyhow::Result<Self> {
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = opened.with_context(|| {
            format!(
                "{} cannot be made for the secret, so none was asked for; give a path that is not there yet",
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
            eprintln!("warning: {} stays, without a secret: {error}", self.path.display());
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
    fn a_secret_lies_alone_in_a_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let place = to(&path).open(TABLES).unwrap();
        let answer = json!({"key": {}, "secret": "s3cret"});
        assert_eq!(place.deliver("s3cret", &answer, TABLES).unwrap(), Some(path.clone()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "s3cret");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = format!("{:#}", to(&path).open(TABLES).unwrap_err());
        assert!(error.contains("none was asked for") && error.contains("exists"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "s3cret");
    }

    #[test]
    fn a_call_that_fails_leaves_no_file() {
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
        assert!(error.contains("on standard output instead") && !error.contains("s3cret"), "{error}");
        assert!(!path.exists());
    }

    #[test]
    fn standard_output_is_taken_once() {
        assert!(to(Path::new("-")).open(Output { json: true }).is_err());
        assert!(matches!(to(Path::new("-")).open(TABLES).unwrap(), SecretOutput::Bare));
    }
}
