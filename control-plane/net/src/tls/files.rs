//! Reads and validates the files of a certificate and its key.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use omniflow_policy::digest::Digest;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::task::JoinError;
use x509_parser::parse_x509_certificate;
use zeroize::Zeroizing;

use omniflow_files::secret::{self, SecretFileError};

use super::certificate::Certificate;
use super::warning::CertificateWarning;

/// Application protocols (ALPN), in order of preference.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Paths of the certificate and its key, in PEM form.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The chain, beginning with the server certificate.
    pub certificate: PathBuf,
    /// The key of the first certificate.
    pub key: PathBuf,
}

/// A validated certificate with its key.
#[derive(Debug)]
pub struct Loaded {
    /// The TLS configuration.
    pub config: Arc<ServerConfig>,
    /// The validity of the certificate.
    pub certificate: Certificate,
    /// Why clients may reject the certificate.
    pub warnings: Vec<CertificateWarning>,
    /// Fingerprints of the files.
    pub(super) seen: Seen,
}

/// The content of the files.
pub(super) struct Pem {
    certificate: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
}

/// Fingerprints of the files when they were read, to detect changes without keeping the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    certificate: Digest,
    key: Digest,
}

/// Why the files cannot be used for TLS. Messages never contain parts of a key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: {source}; choose a readable file", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Whether it is the file of the key.
        key: bool,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file of the key cannot be read, or has unsafe permissions.
    #[error("{}: {source}", path.display())]
    KeyFile {
        /// Path of the key.
        path: PathBuf,
        /// The cause.
        source: SecretFileError,
    },
    /// Clients would reject a renewed certificate, but accept the current one.
    #[error("{}: {what}", path.display())]
    Unfit {
        /// Path of the certificate.
        path: PathBuf,
        /// Why, and what to do.
        what: String,
    },
    /// Reading the files was interrupted.
    #[error("reading the certificate and key was interrupted: {0}")]
    Interrupted(#[from] JoinError),
    /// The file contains no certificate.
    #[error("{}: no certificate in PEM form; use a file with BEGIN CERTIFICATE", .0.display())]
    NoCertificate(PathBuf),
    /// The first certificate cannot be parsed.
    #[error("{}: the first certificate is damaged; replace the file", .0.display())]
    Damaged(PathBuf),
    /// The file contains no key.
    #[error("{}: no private key in PEM form; use a file with BEGIN PRIVATE KEY, without a passphrase", .0.display())]
    NoKey(PathBuf),
    /// The key belongs to another certificate.
    #[error("{}: not the key of the first certificate in {}; use a certificate and key that belong together", key.display(), certificate.display())]
    NotItsKey {
        /// Path of the key.
        key: PathBuf,
        /// Path of the certificate.
        certificate: PathBuf,
    },
    /// The type of key or certificate is not supported.
    #[error("{}: not usable for TLS: {source}", path.display())]
    Unsupported {
        /// Path of the key.
        path: PathBuf,
        /// The cause.
        source: rustls::Error,
    },
}

/// Reads and validates a certificate and its key.
pub fn load(files: &TlsFiles) -> Result<Loaded, TlsError> {
    Pem::read(files)?.load(files)
}

/// Errors of files that cannot be read at all.
pub fn unreadable(files: &TlsFiles) -> Vec<TlsError> {
    let both = [read(&files.certificate, false), read(&files.key, true)];
    both.into_iter().filter_map(Result::err).collect()
}

#[expect(clippy::disallowed_methods, reason = "called at the start and, for renewals, in spawn_blocking")]
fn read(path: &Path, key: bool) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let path = path.to_owned();
    let plain = || fs::read(&path).map(Zeroizing::new).map_err(SecretFileError::from);
    let read = if key { secret::read(&path) } else { plain() };
    let read = match read {
        // A certificate in place of the key is not secret. Later checks report it.
        Err(SecretFileError::Open(mode)) => match plain() {
            Ok(bytes) if !holds_key(&bytes) => Ok(bytes),
            _ => Err(SecretFileError::Open(mode)),
        },
        read => read,
    };
    read.map_err(|error| match error {
        SecretFileError::Io(source) => TlsError::File { path, key, source },
        source => TlsError::KeyFile { path, source },
    })
}

fn holds_key(bytes: &[u8]) -> bool {
    const MARK: &[u8] = b"PRIVATE KEY-----";
    bytes.windows(MARK.len()).any(|window| window == MARK)
}

// === impl Pem ===

impl Pem {
    pub(super) fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self { certificate: read(&files.certificate, false)?, key: read(&files.key, true)? })
    }

    pub(super) fn seen(&self) -> Seen {
        Seen { certificate: Digest::of(&self.certificate), key: Digest::of(&self.key) }
    }

    pub(super) fn load(self, files: &TlsFiles) -> Result<Loaded, TlsError> {
        let chain = CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>();
        // Errors of the parser quote lines of the file.
        let chain = chain.map_err(|_| TlsError::NoCertificate(files.certificate.clone()))?;
        let first = chain.first().ok_or_else(|| TlsError::NoCertificate(files.certificate.clone()))?;
        let (_, parsed) =
            parse_x509_certificate(first).map_err(|_| TlsError::Damaged(files.certificate.clone()))?;
        let certificate = Certificate::of(&parsed);
        let warnings = CertificateWarning::of(&parsed);
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| TlsError::NoKey(files.key.clone()))?;
        let config = config(chain, key).map_err(|source| match source {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::NotItsKey { key: files.key.clone(), certificate: files.certificate.clone() }
            }
            source => TlsError::Unsupported { path: files.key.clone(), source },
        })?;
        Ok(Loaded { config: Arc::new(config), certificate, warnings, seen: self.seen() })
    }
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let certified = CertifiedKey::from_der(chain, key, &provider)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok(config)
}

// === impl TlsError ===

impl TlsError {
    /// Whether the error concerns the file of the key and not that of the certificate.
    pub fn concerns_key(&self) -> bool {
        match self {
            Self::File { key, .. } => *key,
            Self::NoCertificate(_) | Self::Damaged(_) | Self::Unfit { .. } | Self::Interrupted(_) => false,
            Self::KeyFile { .. } | Self::NoKey(_) | Self::NotItsKey { .. } | Self::Unsupported { .. } => true,
        }
    }
}
