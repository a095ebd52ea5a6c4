//! Certificate and key, read from their files, and what keeps them from being used.

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

/// What is spoken inside of TLS, the preferred first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where certificate and key lie, in PEM form.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The key of the first certificate.
    pub key: PathBuf,
}

/// A certificate and its key, ready to be served.
#[derive(Debug)]
pub struct Loaded {
    /// How TLS is spoken.
    pub config: Arc<ServerConfig>,
    /// What is known of the certificate.
    pub certificate: Certificate,
    /// Why clients may refuse it.
    pub warnings: Vec<CertificateWarning>,
    /// What the files held.
    pub(super) seen: Seen,
}

/// What the files hold.
pub(super) struct Pem {
    certificate: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
}

/// What the files held when they were read, to see whether they have changed. The key itself is not kept for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    certificate: Digest,
    key: Digest,
}

/// Why TLS cannot be spoken with these files. Nothing of a key is ever reported.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: {source}; give a file that can be read", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Whether it is the one of the key.
        key: bool,
        /// What the operating system said.
        source: io::Error,
    },
    /// The key is not taken from its file.
    #[error("{}: {source}", path.display())]
    KeyFile {
        /// The key's file.
        path: PathBuf,
        /// Why.
        source: SecretFileError,
    },
    /// A renewed certificate would be refused by clients, and the one that is served is not.
    #[error("{}: {what}", path.display())]
    Unfit {
        /// The certificate's file.
        path: PathBuf,
        /// Why, and what to do.
        what: String,
    },
    /// The files were not read to their end.
    #[error("reading certificate and key was interrupted: {0}")]
    Interrupted(#[from] JoinError),
    /// There is no certificate in the file.
    #[error("{}: no certificate in PEM form: give a file with BEGIN CERTIFICATE", .0.display())]
    NoCertificate(PathBuf),
    /// The first certificate is not one.
    #[error("{}: the first certificate cannot be read: it is damaged", .0.display())]
    Damaged(PathBuf),
    /// There is no key in the file.
    #[error("{}: no private key in PEM form: give a file with BEGIN PRIVATE KEY, without a passphrase", .0.display())]
    NoKey(PathBuf),
    /// The key is of another certificate.
    #[error("{}: this is not the key of the first certificate in {}", key.display(), certificate.display())]
    NotItsKey {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// Such a key or certificate is not supported.
    #[error("{}: it cannot be used for TLS: {source}", path.display())]
    Unsupported {
        /// The key's file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
}

/// Reads certificate and key.
pub fn load(files: &TlsFiles) -> Result<Loaded, TlsError> {
    Pem::read(files)?.load(files)
}

/// What is wrong with the files that cannot be read at all.
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
        // The certificate, in the key's place, is no secret: later checks report its errors.
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
        // The parser's errors quote the lines that they do not like.
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
    /// Whether it is about the key's file rather than the certificate's.
    pub fn concerns_key(&self) -> bool {
        match self {
            Self::File { key, .. } => *key,
            Self::NoCertificate(_) | Self::Damaged(_) | Self::Unfit { .. } | Self::Interrupted(_) => false,
            Self::KeyFile { .. } | Self::NoKey(_) | Self::NotItsKey { .. } | Self::Unsupported { .. } => true,
        }
    }
}
