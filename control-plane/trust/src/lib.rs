//! Trust in TLS peers: CA files, and why a certificate is rejected.
//!
//! A leaf crate, because two sides need the same rule and must not depend on each other: the command line, which
//! connects to the control plane, and the control plane, which connects to webhook and OTLP receivers. The result is
//! plain DER, so that each side keeps its own HTTP client.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests prepare files and measure time"))]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, RootCertStore};

/// Why a file of CA certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaFileError {
    /// The file cannot be read.
    #[error("{}: the CA file cannot be read: {source}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file contains no PEM certificates, or one that cannot be used as a trust anchor.
    #[error("{}: not CA certificates in PEM form", .0.display())]
    NotCertificates(PathBuf),
}

/// Reads the CA certificates of a PEM file.
///
/// # Errors
///
/// Fails if the file cannot be read, has no certificate, or has one that is not usable as a trust anchor: HTTP clients
/// skip those silently.
#[expect(
    clippy::disallowed_methods,
    reason = "a CA file is read at the start and by the synchronous command line"
)]
pub fn read_ca_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, CaFileError> {
    let pem = fs::read(path).map_err(|source| CaFileError::File { path: path.to_owned(), source })?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.unwrap_or_default();
    let mut usable = RootCertStore::empty();
    if certificates.is_empty() || certificates.iter().any(|one| usable.add(one.clone()).is_err()) {
        return Err(CaFileError::NotCertificates(path.to_owned()));
    }
    Ok(certificates)
}

/// Whether a certificate was rejected because it is a CA certificate. rustls reports this only as text.
pub fn is_authority(error: &CertificateError) -> bool {
    matches!(error, CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ca_file_with_anything_but_certificates_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        assert!(matches!(read_ca_file(&path), Err(CaFileError::File { .. })));
        for text in ["", "not PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            fs::write(&path, text).unwrap();
            let error = read_ca_file(&path).unwrap_err();
            assert!(matches!(error, CaFileError::NotCertificates(_)), "{text:?}: {error}");
        }
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["ca".to_owned()]).unwrap().self_signed(&key).unwrap();
        fs::write(&path, certificate.pem()).unwrap();
        assert_eq!(read_ca_file(&path).unwrap(), [certificate.der().clone()]);
    }
}
