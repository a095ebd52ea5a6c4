//! Why most clients refuse a certificate that can be served.

use std::fmt;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// A property of a server certificate that most clients refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateWarning {
    /// It is made for issuing others.
    Authority,
    /// It is made for something else than servers.
    Purpose,
    /// It has no name that clients look at.
    Nameless,
}

// === impl CertificateWarning ===

impl CertificateWarning {
    /// The warnings about a certificate, apart from who issued it and when it is valid.
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
                "the certificate is a CA's own (basicConstraints CA:TRUE), which omf and others take for no server's: \
                 make one with CA:FALSE, as docs/guides/envoy.md does"
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
