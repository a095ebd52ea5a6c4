//! Files with secrets that somebody else made: the key of a certificate, wrapping keys, a webhook's secret, a token. One
//! rule judges them all.
//!
//! A secret that everybody on the machine may read is none, so that such a file is refused, as ssh does, with what to do.
//! A group may read it: that is how Kubernetes mounts secrets for a process that is not root's (`fsGroup`). It may not
//! write it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

/// What of a mode is too much: all of everybody, and the group's writing.
const TOO_MUCH: u32 = 0o027;
/// More than any of these files has.
const MAX_BYTES: u64 = 1024 * 1024;

/// Why a secret is not taken from its file.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It cannot be read.
    #[error("{0}; give a file that can be read")]
    Io(#[from] io::Error),
    /// Others can read or change it.
    #[error(
        "others can read or change it (mode {0:03o}): chmod 600 it, or 640 where its group reads it (in Kubernetes: \
         defaultMode 0440 with fsGroup)"
    )]
    Open(u32),
    /// It is no secret.
    #[error("it has more than {MAX_BYTES} bytes, so it is not the file that is meant")]
    Long,
}

/// The content of a file that is for few to read.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let file = File::open(path)?;
    // Of the file that is open, not of what may stand there a moment later.
    let metadata = file.metadata()?;
    let mode = metadata.permissions().mode() & 0o777;
    // A pipe, as a shell's <(command) makes, has an end of its own.
    if metadata.is_file() && mode & TOO_MUCH != 0 {
        return Err(SecretFileError::Open(mode));
    }
    // At once as large as it becomes: a buffer that grows leaves copies behind.
    let room = usize::try_from(metadata.len().min(MAX_BYTES)).unwrap_or_default() + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(SecretFileError::Long);
    }
    Ok(bytes)
}

/// The same as text.
pub fn read_text(path: &Path) -> Result<Zeroizing<String>, SecretFileError> {
    let bytes = read(path)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not text (UTF-8)"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

// === impl SecretFileError ===

impl SecretFileError {
    /// Whether there is no such file.
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
