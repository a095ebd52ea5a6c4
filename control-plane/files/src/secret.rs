//! Files with secrets that an operator provides: the key of a certificate, wrapping keys, the secret of a webhook, a token.
//! The same rule applies to all of them.
//!
//! A file that all users can read is rejected, as in ssh, with an error that explains how to fix it. The group may read the
//! file, because Kubernetes mounts secrets for processes of other users in this way (`fsGroup`), but not write it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

/// Mode bits that are not allowed: all of other users, and write access of the group.
const TOO_MUCH: u32 = 0o027;
/// Maximum length in bytes, longer than any of these files.
const MAX_BYTES: u64 = 1024 * 1024;

/// Why a file with a secret is rejected.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// The file cannot be read.
    #[error("{0}; choose a readable file")]
    Io(io::Error),
    /// Other users can read or change the file.
    #[error(
        "other users can read or change the file (mode {0:03o}); run chmod 600, or 640 if its group must read it (in \
         Kubernetes: defaultMode 0440 with fsGroup)"
    )]
    Open(u32),
    /// The file is too long.
    #[error("the file has more than {MAX_BYTES} bytes, so it is not a secret; choose another file")]
    Long,
}

/// Reads a file with a secret.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let file = File::open(path)?;
    // Of the open file, because another one may be at the path a moment later.
    let metadata = file.metadata()?;
    let mode = metadata.permissions().mode() & 0o777;
    // Pipes, such as <(command) in a shell, are not checked.
    if metadata.is_file() && mode & TOO_MUCH != 0 {
        return Err(SecretFileError::Open(mode));
    }
    // Allocated once: a buffer that grows leaves copies of the secret behind.
    let room = usize::try_from(metadata.len().min(MAX_BYTES)).unwrap_or_default() + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(SecretFileError::Long);
    }
    Ok(bytes)
}

/// Reads a file with a secret as text.
pub fn read_text(path: &Path) -> Result<Zeroizing<String>, SecretFileError> {
    let bytes = read(path)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the file is not UTF-8 text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

// === impl SecretFileError ===

// Not `#[from]`, which makes it the source as well: the message already contains it, and an error chain would repeat it.
impl From<io::Error> for SecretFileError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl SecretFileError {
    /// Whether the file does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// Writes a file as an operator would who has read how.
#[cfg(test)]
pub fn write(path: &Path, content: impl AsRef<[u8]>) {
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_secret_is_for_few_to_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write(&path, "s3cret\n");
        for (mode, taken) in [
            (0o600, true),
            (0o400, true),
            (0o440, true),
            (0o640, true),
            (0o660, false),
            (0o644, false),
            (0o604, false),
            (0o601, false),
            (0o666, false),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let read = read_text(&path);
            assert_eq!(read.is_ok(), taken, "{mode:o}");
            match read {
                Ok(text) => assert_eq!(*text, "s3cret\n"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.contains("chmod 600") && error.contains(&format!("{mode:o}")), "{error}");
                    assert!(!error.contains("s3cret"));
                }
            }
        }
        let missing = read(&folder.path().join("none")).unwrap_err();
        assert!(missing.is_missing());
        assert!(std::error::Error::source(&missing).is_none(), "an error chain would print the cause twice");
    }

    #[test]
    fn a_link_is_judged_by_what_it_leads_to() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("secret"), folder.path().join("link"));
        write(&path, "s3cret");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read(&link).is_ok());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(read(&link), Err(SecretFileError::Open(0o644))));
    }

    #[test]
    fn what_is_long_or_no_text_is_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write(&path, vec![b'x'; 1024 * 1024 + 1]);
        assert!(matches!(read(&path), Err(SecretFileError::Long)));
        write(&path, [0xff, 0xfe]);
        assert!(matches!(read_text(&path), Err(SecretFileError::Io(_))));
    }
}
