//! The wrapping keys of an installation, in a separate file: 64 hexadecimal digits per line, newest first.
//!
//! Backups do not include this file, so a backup alone cannot be used to read payloads.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use omniflow_policy::digest::Digest;
use zeroize::Zeroizing;

use super::cipher::{Cipher, KEY_LENGTH, KeyBytes, random_key};
use omniflow_domain::clock::{Entropy, EntropyUnavailable};
use omniflow_files::private;
use omniflow_files::secret::{self, SecretFileError};

const HEADER: &str = "# Wrapping keys for the payloads in the audit log, newest first. They decrypt the payloads: keep this file secret.\n";

/// Identifies a wrapping key: the first bytes of its SHA-256.
pub(crate) type KeyName = [u8; 8];

/// The wrapping keys, at least one.
pub(super) struct Keyring {
    path: PathBuf,
    newest: WrappingKey,
    older: Vec<WrappingKey>,
}

/// A key that encrypts data keys.
pub(super) struct WrappingKey {
    bytes: KeyBytes,
    cipher: Cipher,
}

/// Why there are no wrapping keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file cannot be read or created.
    #[error("{}: {source}; set payload_key_file to a file that omf can read or create", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file was rejected.
    #[error("{}: {source}", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: SecretFileError,
    },
    /// The file contains something else.
    #[error(
        "{} line {line}: not a wrapping key: use one line of 64 hexadecimal digits per key (openssl rand -hex 32), newest key first",
        path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, starting at 1.
        line: usize,
    },
    /// The file contains no key.
    #[error("{} contains no wrapping key: add one (openssl rand -hex 32), or remove the file so that omf creates one", .0.display())]
    Empty(PathBuf),
    /// No key can be generated.
    #[error(transparent)]
    Entropy(#[from] EntropyUnavailable),
}

// === impl KeyringError ===

impl KeyringError {
    fn of(path: &Path, error: SecretFileError) -> Self {
        let path = path.to_owned();
        match error {
            SecretFileError::Io(source) => Self::File { path, source },
            source => Self::Secret { path, source },
        }
    }
}

// === impl Keyring ===

impl Keyring {
    /// Reads the file, or creates it with one key if it does not exist.
    pub(super) fn open(path: &Path, entropy: &Entropy) -> Result<Self, KeyringError> {
        match secret::read_text(path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) if error.is_missing() => {
                let newest = WrappingKey::random(entropy)?;
                let keyring = Self { path: path.to_owned(), newest, older: Vec::new() };
                keyring.write()?;
                Ok(keyring)
            }
            Err(error) => Err(KeyringError::of(path, error)),
        }
    }

    /// Checks whether the file can be read, or could be created in its directory.
    #[expect(
        clippy::disallowed_methods,
        reason = "called before the start and by the synchronous `omf config check`"
    )]
    pub(super) fn check(path: &Path) -> Result<(), KeyringError> {
        let failed = |source| KeyringError::File { path: path.to_owned(), source };
        match secret::read_text(path) {
            Ok(text) => Self::parse(path, &text).map(|_| ()),
            Err(error) if error.is_missing() => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                fs::metadata(folder.unwrap_or(Path::new("."))).map(|_| ()).map_err(failed)
            }
            Err(error) => Err(KeyringError::of(path, error)),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self, KeyringError> {
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = read_key(line).and_then(WrappingKey::new);
            keys.push(key.ok_or_else(|| KeyringError::Line { path: path.to_owned(), line: index + 1 })?);
        }
        let mut keys = keys.into_iter();
        let newest = keys.next().ok_or_else(|| KeyringError::Empty(path.to_owned()))?;
        Ok(Self { path: path.to_owned(), newest, older: keys.collect() })
    }

    /// The key that encrypts new data keys.
    pub(super) fn newest(&self) -> &WrappingKey {
        &self.newest
    }

    /// The key with this name.
    pub(super) fn find(&self, name: &[u8]) -> Option<&WrappingKey> {
        std::iter::once(&self.newest).chain(&self.older).find(|key| key.name() == name)
    }

    /// Inserts a new key at the front, also in the file. Keys that were added to the file since it was read are loaded.
    pub(super) fn add(&mut self, entropy: &Entropy) -> Result<(), KeyringError> {
        *self = Self::open(&self.path, entropy)?;
        let newest = WrappingKey::random(entropy)?;
        let before = std::mem::replace(&mut self.newest, newest);
        self.older.insert(0, before);
        let written = self.write();
        if written.is_err() {
            // The file is unchanged, and so is this.
            self.newest = self.older.remove(0);
        }
        written
    }

    /// Removes all keys except the newest, also from the file.
    pub(super) fn forget_older(&mut self) -> Result<(), KeyringError> {
        let older = std::mem::take(&mut self.older);
        self.write().inspect_err(|_| self.older = older)
    }

    fn write(&self) -> Result<(), KeyringError> {
        let mut text = Zeroizing::new(HEADER.to_owned());
        for key in std::iter::once(&self.newest).chain(&self.older) {
            text.push_str(&Zeroizing::new(hex::encode(key.bytes.as_slice())));
            text.push('\n');
        }
        private::write_private(&self.path, &text)
            .map_err(|source| KeyringError::File { path: self.path.clone(), source })
    }
}

fn read_key(line: &str) -> Option<KeyBytes> {
    let mut bytes = Zeroizing::new([0; KEY_LENGTH]);
    hex::decode_to_slice(line, bytes.as_mut_slice()).ok()?;
    Some(bytes)
}

// === impl WrappingKey ===

impl WrappingKey {
    fn new(bytes: KeyBytes) -> Option<Self> {
        let cipher = Cipher::new(&bytes)?;
        Some(Self { bytes, cipher })
    }

    fn random(entropy: &Entropy) -> Result<Self, EntropyUnavailable> {
        Self::new(random_key(entropy)?).ok_or(EntropyUnavailable)
    }

    /// Its name. The key cannot be derived from 64 bits of its digest.
    pub(super) fn name(&self) -> KeyName {
        let digest = Digest::of(self.bytes.as_slice());
        std::array::from_fn(|index| digest.as_bytes().get(index).copied().unwrap_or_default())
    }

    pub(super) fn cipher(&self) -> &Cipher {
        &self.cipher
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_file_is_made_once_kept_private_and_never_guessed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("payload-key");
        let entropy = Entropy::system();
        let name = Keyring::open(&path, &entropy).unwrap().newest().name();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let mut keyring = Keyring::open(&path, &entropy).unwrap();
        assert_eq!(keyring.newest().name(), name);
        keyring.add(&entropy).unwrap();
        let again = Keyring::open(&path, &entropy).unwrap();
        assert_eq!(again.newest().name(), keyring.newest().name());
        assert!(again.find(&name).is_some() && again.newest().name() != name);
        keyring.forget_older().unwrap();
        assert!(Keyring::open(&path, &entropy).unwrap().find(&name).is_none());

        let error_of = |content: &str| {
            fs::write(&path, content).unwrap();
            Keyring::open(&path, &entropy).map(|_| ()).unwrap_err().to_string()
        };
        let key = "0f".repeat(32);
        assert!(error_of("").contains("contains no wrapping key") && Keyring::check(&path).is_err());
        assert!(Keyring::check(&folder.path().join("not-yet")).is_ok());
        assert!(Keyring::check(&folder.path().join("missing/not-yet")).is_err());
        assert!(
            error_of(&format!("# a comment\n\n{key}\n{key}0f\n"))
                .contains("payload-key line 4: not a wrapping key")
        );
        for wrong in ["é".repeat(32), format!("+{}", &key[1..])] {
            assert!(error_of(&wrong).contains("line 1"), "{wrong}");
        }
        fs::write(&path, format!("  {}  \n", key.to_uppercase())).unwrap();
        assert!(Keyring::open(&path, &entropy).is_ok());
    }

    #[test]
    fn a_file_that_cannot_be_written_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("payload-key");
        let entropy = Entropy::system();
        let mut keyring = Keyring::open(&path, &entropy).unwrap();
        // Edited by hand while it is in use.
        let added = fs::read_to_string(&path).unwrap() + &"0f".repeat(32);
        fs::write(&path, added).unwrap();
        keyring.add(&entropy).unwrap();
        assert_eq!(keyring.older.len(), 2);
        let mut keyring = Keyring { older: Vec::new(), ..keyring };
        let name = keyring.newest().name();
        keyring.path = folder.path().join("missing/payload-key");
        assert!(keyring.add(&entropy).unwrap_err().to_string().contains("payload_key_file"));
        assert!(keyring.newest().name() == name && keyring.older.is_empty());
    }
}
