//! CA files, and why a certificate is rejected.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig, RootCertStore};

/// Why a file of CA certificates is not usable.
#[derive(Debug, thiserror::Error)]
pub enum CaFileError {
    /// The file cannot be read.
    #[error("{}: cannot read the CA file: {source}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file contains no PEM certificates, or one that cannot be used as a trust anchor.
    #[error("{}: no usable CA certificates in PEM form", .0.display())]
    NotCertificates(PathBuf),
}

/// Reads the CA certificates of a PEM file.
///
/// # Errors
///
/// Fails if the file cannot be read, has no certificate, or has one that is not usable as a trust anchor.
#[expect(
    clippy::disallowed_methods,
    reason = "a CA file is read at the start and by the synchronous command line"
)]
pub fn read_ca_file(path: &Path) -> Result<RootCertStore, CaFileError> {
    let pem = fs::read(path).map_err(|source| CaFileError::File { path: path.to_owned(), source })?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.unwrap_or_default();
    let mut roots = RootCertStore::empty();
    if certificates.is_empty() || certificates.into_iter().any(|one| roots.add(one).is_err()) {
        return Err(CaFileError::NotCertificates(path.to_owned()));
    }
    Ok(roots)
}

/// Mozilla's CA certificates, which are part of the program: a container may have none.
pub(crate) fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// TLS with these roots, and with the provider that the listener uses. It is named here, because another crate that
/// enables a second one in rustls would make the process-wide default ambiguous.
pub(crate) fn tls_config(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
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
        assert_eq!(read_ca_file(&path).unwrap().len(), 1);
        fs::write(
            &path,
            certificate.pem() + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        assert!(read_ca_file(&path).is_err(), "one of two cannot be used");
    }

    #[test]
    fn is_authority_recognizes_the_error_that_rustls_reports_as_text() {
        let error = |text| CertificateError::Other(rustls::OtherError(Arc::new(std::io::Error::other(text))));
        assert!(is_authority(&error("CaUsedAsEndEntity")));
        assert!(!is_authority(&error("UnsupportedCertVersion")));
    }
}
