//! Explanations of TLS failures, with how to resolve them.

use std::path::Path;

use omniflow_http_client::{is_authority, is_not_http, tls_error};
use rustls::{CertificateError, Error as TlsFailure};

/// Explains a failure caused by TLS, or by its absence. Returns `None` for other failures. `ca_file` is the configured file
/// with CA certificates.
pub(crate) fn explain(error: &reqwest::Error, url: &str, ca_file: Option<&Path>) -> Option<String> {
    match tls_error(error) {
        Some(TlsFailure::InvalidCertificate(certificate)) => {
            Some(format!("the certificate of {url} {}", refused(certificate, ca_file)))
        }
        Some(TlsFailure::InvalidMessage(_)) => {
            Some(format!("{url} does not use TLS: use http:// in the URL"))
        }
        Some(other) => Some(format!("TLS connection to {url} failed: {other}")),
        // A server that expects TLS responds with a TLS alert.
        None if url.starts_with("http://") && is_not_http(error) => {
            Some(format!("{url} does not respond with HTTP: if it uses TLS, use https:// in the URL"))
        }
        None => None,
    }
}

/// Explains why a certificate is rejected, and how to resolve it.
fn refused(certificate: &CertificateError, ca_file: Option<&Path>) -> String {
    match (certificate, ca_file) {
        // A bad signature usually comes from another CA with the same name, such as a recreated one.
        (CertificateError::UnknownIssuer | CertificateError::BadSignature, None) => {
            "is not trusted: specify the certificate of its CA, in PEM, with --ca-file or OMF_CA_FILE"
                .to_owned()
        }
        (CertificateError::UnknownIssuer | CertificateError::BadSignature, Some(path)) => format!(
            "is not trusted: no CA in {} issued it; get the certificate of its CA from the operator of the control \
             plane",
            path.display()
        ),
        (CertificateError::Expired | CertificateError::ExpiredContext { .. }, _) => {
            "has expired: renew it at the control plane".to_owned()
        }
        (CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }, _) => {
            "is not valid yet: check the clock of this machine".to_owned()
        }
        (CertificateError::NotValidForNameContext { presented, .. }, _) if presented.is_empty() => {
            "contains no server name: configure the control plane with a certificate that lists its names in subjectAltName".to_owned()
        }
        (CertificateError::NotValidForNameContext { presented, .. }, _) => {
            let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            format!("is for another name: use one of its names in the URL ({})", names.join(", "))
        }
        (CertificateError::NotValidForName, _) => {
            "is for another name: use one of its names in the URL".to_owned()
        }
        (CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. }, _) => {
            "is not a server certificate: configure the control plane with one that has serverAuth in extendedKeyUsage"
                .to_owned()
        }
        (other, _) if is_authority(other) => {
            "is a CA certificate, which is not accepted as a server certificate: configure the control plane with one that has \
             basicConstraints CA:FALSE (see docs/guides/envoy.md)"
                .to_owned()
        }
        _ => "cannot be used: it is corrupted or in an unsupported format; issue another one".to_owned(),
    }
}

/// Extracts a name, which the library formats with its type, as `DnsName("localhost")`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::OtherError;
    use rustls::pki_types::ServerName;

    use super::*;

    #[test]
    fn advice_about_a_rejected_certificate_depends_on_the_ca_file() {
        let given = Path::new("/etc/ca.crt");
        for error in [CertificateError::UnknownIssuer, CertificateError::BadSignature] {
            assert!(refused(&error, None).contains("--ca-file"));
            let text = refused(&error, Some(given));
            assert!(!text.contains("--ca-file") && text.contains("/etc/ca.crt"), "{text}");
        }
        let other = |presented: &[&str]| CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("localhost").unwrap(),
            presented: presented.iter().map(|name| (*name).to_owned()).collect(),
        };
        let text = refused(&other(&["DnsName(\"keys.internal\")", "IpAddress(192.0.2.1)"]), None);
        assert!(text.ends_with("(keys.internal, 192.0.2.1)"), "{text}");
        assert!(refused(&other(&[]), None).contains("contains no server name"));
        for text in ["CaUsedAsEndEntity", "UnsupportedCertVersion"] {
            let error = CertificateError::Other(OtherError(Arc::new(std::io::Error::other(text))));
            let explanation = refused(&error, None);
            assert_eq!(explanation.contains("CA:FALSE"), text.starts_with("Ca"), "{explanation}");
            assert!(!explanation.contains("Other") && !explanation.contains(text), "{explanation}");
        }
    }
}
