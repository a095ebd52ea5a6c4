//! Which control planes `omf` trusts over TLS, and what to do about one that it does not.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, Error as TlsFailure, RootCertStore};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// By the certificates of this file, or by the public ones.
pub(super) fn config(ca_file: Option<&Path>) -> anyhow::Result<TlsConfig> {
    let config = TlsConfig::builder();
    let Some(path) = ca_file else { return Ok(config.build()) };
    let pem = fs::read(path).with_context(|| format!("{}: the CA file cannot be read", path.display()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.unwrap_or_default();
    // The HTTP client leaves out what it cannot use, without a word.
    let mut usable = RootCertStore::empty();
    if certificates.is_empty() || certificates.iter().any(|one| usable.add(one.clone()).is_err()) {
        bail!("{}: not CA certificates in PEM form: give another file with --ca-file", path.display());
    }
    let roots: Vec<_> = certificates.iter().map(|one| Certificate::from_der(one).to_owned()).collect();
    Ok(config.root_certs(RootCerts::new_with_certs(&roots)).build())
}

/// What to do where TLS is why a call failed, or the lack of it. `None` if it has nothing to do with that.
pub(super) fn explain(error: &ureq::Error, url: &str) -> Option<String> {
    let tls = match error {
        ureq::Error::Rustls(failure) => Some(failure),
        ureq::Error::Io(error) => error.get_ref().and_then(|inner| inner.downcast_ref()),
        _ => None,
    };
    match tls {
        Some(TlsFailure::InvalidCertificate(certificate)) => Some(refused(certificate, url)),
        Some(TlsFailure::InvalidMessage(_)) => {
            Some(format!("{url} does not speak TLS: write http:// in --url or OMF_URL"))
        }
        Some(other) => Some(format!("TLS with {url} failed: {other}")),
        // A server that waits for TLS says something, or nothing, that is not HTTP.
        None if url.starts_with("http://") && matches!(error, ureq::Error::Protocol(_)) => Some(format!(
            "{url} does not answer in HTTP: if it speaks TLS, write https:// in --url or OMF_URL"
        )),
        None => None,
    }
}

fn refused(certificate: &CertificateError, url: &str) -> String {
    match certificate {
        // A bad signature is that of another CA of the same name: one that was made anew, most likely.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "the certificate of {url} is not trusted: give the CA that issued it, in PEM form, with --ca-file or OMF_CA_FILE"
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the certificate of {url} has expired: renew it at the control plane")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the certificate of {url} is not valid yet: check the clock of this machine")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!(
                "the certificate of {url} is for another name: write one of its names in --url or OMF_URL"
            )
        }
        other => format!(
            "the certificate of {url} is refused ({other}): give its CA with --ca-file or OMF_CA_FILE, and let \
             the control plane serve a certificate that is not a CA's own"
        ),
    }
}
