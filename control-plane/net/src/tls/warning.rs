//! Properties of certificates that most clients reject.

use std::fmt;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// A property of a server certificate that most clients reject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateWarning {
    /// It is a CA certificate.
    Authority,
    /// Its extended key usage does not include servers.
    Purpose,
    /// It has no subject alternative name, which clients check.
    Nameless,
}

// === impl CertificateWarning ===

impl CertificateWarning {
    /// Returns the warnings about a certificate. Does not check its issuer and validity.
    pub(super) fn of(parsed: &X509Certificate<'_>) -> Vec<Self> {
        let constraints = parsed.basic_constraints().ok().flatten();
        let usage = parsed.extended_key_usage().ok().flatten();
        let names = parsed.subject_alternative_name().ok().flatten();
        let is_name =
            |name: &GeneralName<'_>| matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_));
        let made_for = if constraints.is_some_and(|extension| extension.value.ca) {
            Some(Self::Authority)
        } else {
            usage.is_some_and(|extension| !extension.value.server_auth).then_some(Self::Purpose)
        };
        let is_nameless = !names.is_some_and(|extension| extension.value.general_names.iter().any(is_name));
        made_for.into_iter().chain(is_nameless.then_some(Self::Nameless)).collect()
    }
}

impl fmt::Display for CertificateWarning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Authority => {
                "the certificate is a CA certificate (basicConstraints CA:TRUE), which omf and other clients reject as \
                 a server certificate; create one with CA:FALSE, as in docs/guides/envoy.md"
            }
            Self::Purpose => {
                "the certificate is not a server certificate; create one whose extendedKeyUsage includes serverAuth, or one without extendedKeyUsage"
            }
            Self::Nameless => {
                "the certificate contains no server name, so clients reject it; create one whose subjectAltName lists the names that clients connect to"
            }
        })
    }
}
