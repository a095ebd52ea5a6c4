//! Why clients will not take a certificate that can be served, judged by the library that `omf` itself goes by.

use std::fmt;
use std::time::Duration;

use omniflow_trust::is_authority;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};

use super::Certificate;

/// A name that nobody can have (RFC 6761, section 6.4).
const NO_NAME: &str = "nobody.invalid";

/// Something that most clients refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It is made for issuing others.
    Authority,
    /// It is made for something else than servers.
    Purpose,
    /// It has no name that clients look at.
    Nameless,
}

/// What there is to say against a certificate, apart from who issued it and when it is valid.
pub(super) fn doubts(certificate: &CertificateDer<'_>, validity: Certificate) -> Vec<Doubt> {
    let Ok(parsed) = ParsedCertificate::try_from(certificate) else { return Vec::new() };
    let (nobody, algorithms) = (RootCertStore::empty(), default_provider().signature_verification_algorithms);
    let at = UnixTime::since_unix_epoch(Duration::from_millis(validity.not_after.0));
    // With nobody to trust it fails in any case; what it is made for is judged before that.
    let use_of_it = verify_server_cert_signed_by_trust_anchor(&parsed, &nobody, &[], at, algorithms.all);
    let made_for = match use_of_it {
        Err(Error::InvalidCertificate(error)) if is_authority(&error) => Some(Doubt::Authority),
        Err(Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        )) => Some(Doubt::Purpose),
        _ => None,
    };
    let names = ServerName::try_from(NO_NAME).map(|name| verify_server_name(&parsed, &name));
    let is_nameless = matches!(
        names,
        Ok(Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. })))
            if presented.is_empty()
    );
    made_for.into_iter().chain(is_nameless.then_some(Doubt::Nameless)).collect()
}

// === impl Doubt ===

impl fmt::Display for Doubt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Authority => {
                "the certificate is a CA's own (basicConstraints CA:TRUE), which omf and others take for no server's: \
                 make one with CA:FALSE, as README.md does"
            }
            Self::Purpose => {
                "the certificate is not for servers: make one whose extendedKeyUsage has serverAuth, or that has none"
            }
            Self::Nameless => {
                "the certificate names no server, so clients refuse it: make one whose subjectAltName has the names \
                 that they call"
            }
        })
    }
}
