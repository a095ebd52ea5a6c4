//! Which control planes `omf` trusts over TLS, and what to do about one that it does not.

use std::path::Path;

use omniflow_http_client::{is_authority, is_not_http, tls_error};
use rustls::{CertificateError, Error as TlsFailure};

/// What to do where TLS is why a call failed, or the lack of it. `None` if it has nothing to do with that. `ca_file` is
/// the file with the CA certificates that were given.
pub(crate) fn explain(error: &reqwest::Error, url: &str, ca_file: Option<&Path>) -> Option<String> {
    match tls_error(error) {
        Some(TlsFailure::InvalidCertificate(certificate)) => {
            Some(format!("the certificate of {url} {}", refused(certificate, ca_file)))
        }
        Some(TlsFailure::InvalidMessage(_)) => {
            Some(format!("{url} does not speak TLS: write http:// in the URL"))
        }
        Some(other) => Some(format!("TLS with {url} failed: {other}")),
        // A server that expects TLS answers with a TLS alert.
        None if url.starts_with("http://") && is_not_http(error) => {
            Some(format!("{url} does not answer in HTTP: if it speaks TLS, write https:// in the URL"))
        }
        None => None,
    }
}

/// What is wrong with a certificate, and what to do.
fn refused(certificate: &CertificateError, ca_file: Option<&Path>) -> String {
    match (certificate, ca_file) {
        // A bad signature is that of another CA of the same name: one that was made anew, most likely.
        (CertificateError::UnknownIssuer | CertificateError::BadSignature, None) => {
            "is not trusted: give the CA that issued it, in PEM form, with --ca-file or OMF_CA_FILE"
                .to_owned()
        }
        (CertificateError::UnknownIssuer | CertificateError::BadSignature, Some(path)) => format!(
            "is not trusted: it was issued by another CA than those in {}; get the one that issued it from whoever \
             runs the control plane",
            path.display()
        ),
        (CertificateError::Expired | CertificateError::ExpiredContext { .. }, _) => {
            "has expired: renew it at the control plane".to_owned()
        }
        (CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }, _) => {
            "is not valid yet: check the clock of this machine".to_owned()
        }
        (CertificateError::NotValidForNameContext { presented, .. }, _) if presented.is_empty() => {
            "names no server: let the control plane serve one whose subjectAltName has its names".to_owned()
        }
        (CertificateError::NotValidForNameContext { presented, .. }, _) => {
            let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            format!("is for another name: write one of its names in the URL ({})", names.join(", "))
        }
        (CertificateError::NotValidForName, _) => {
            "is for another name: write one of its names in the URL".to_owned()
        }
        (CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. }, _) => {
            "is not for servers: let the control plane serve one whose extendedKeyUsage has serverAuth"
                .to_owned()
        }
        (other, _) if is_authority(other) => {
            "is a CA's own, which is taken for no server's: let the control plane \
             serve one with basicConstraints CA:FALSE, as docs/guides/envoy.md shows"
                .to_owned()
        }
        _ => "cannot be used: it is damaged, or of a form that omf does not know; make another".to_owned(),
    }
}

/// A name as it is written: the library gives it with its kind, as `DnsName("localhost")`.
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
    fn a_rejected_certificate_is_explained_without_advice_that_was_followed() {
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
        assert!(refused(&other(&[]), None).contains("names no server"));
        for text in ["CaUsedAsEndEntity", "UnsupportedCertVersion"] {
            let error = CertificateError::Other(OtherError(Arc::new(std::io::Error::other(text))));
            let explanation = refused(&error, None);
            assert_eq!(explanation.contains("CA:FALSE"), text.starts_with("Ca"), "{explanation}");
            assert!(!explanation.contains("Other") && !explanation.contains(text), "{explanation}");
        }
    }
}
