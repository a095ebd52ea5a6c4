//! Validity of certificates.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use omniflow_domain::time::format_time;
use omniflow_policy::time::UnixMillis;
use x509_parser::certificate::X509Certificate;
use x509_parser::time::ASN1Time;

/// The validity period of a server certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Start of the validity.
    pub not_before: UnixMillis,
    /// End of the validity.
    pub not_after: UnixMillis,
}

/// When the certificate in use expires. A renewal updates all clones.
#[derive(Clone, Debug, Default)]
pub struct CertificateExpiry(Arc<AtomicU64>);

// === impl CertificateExpiry ===

impl CertificateExpiry {
    /// The end of the validity; the start of 1970 without TLS.
    pub fn get(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::Relaxed))
    }

    pub(super) fn set(&self, not_after: UnixMillis) {
        self.0.store(not_after.0, Ordering::Relaxed);
    }
}

// === impl Certificate ===

impl Certificate {
    /// Returns the validity of a parsed certificate.
    pub(super) fn of(parsed: &X509Certificate<'_>) -> Self {
        let validity = parsed.validity();
        Self { not_before: millis(validity.not_before), not_after: millis(validity.not_after) }
    }

    /// Explains why no client accepts the certificate at an instant, and what to do. `None` if it is valid.
    pub fn unfit_at(&self, now: UnixMillis) -> Option<String> {
        if now > self.not_after {
            Some(format!("the certificate expired on {}; renew it", format_time(self.not_after)))
        } else if now < self.not_before {
            let begin = format_time(self.not_before);
            Some(format!("the certificate is not valid until {begin}; check the clock, or wait"))
        } else {
            None
        }
    }
}

/// Times before 1970 become the start of 1970; either is in the past.
fn millis(time: ASN1Time) -> UnixMillis {
    UnixMillis(u64::try_from(time.timestamp()).unwrap_or(0).saturating_mul(1_000))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use x509_parser::parse_x509_certificate;

    use super::*;

    fn der(from: (i32, u8, u8), until: (i32, u8, u8)) -> Vec<u8> {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn read(der: &[u8]) -> Option<Certificate> {
        parse_x509_certificate(der).ok().map(|(_, parsed)| Certificate::of(&parsed))
    }

    #[test]
    fn both_forms_of_time_are_read() {
        // Years up to 2049 are written with two digits, later ones with four (RFC 5280, section 4.1.2.5).
        let found = read(&der((2049, 12, 31), (2050, 1, 1))).unwrap();
        assert_eq!(format_time(found.not_before), "2049-12-31T00:00:00.000Z");
        assert_eq!(format_time(found.not_after), "2050-01-01T00:00:00.000Z");
        let found = read(&der((1960, 1, 1), (1970, 1, 2))).unwrap();
        assert_eq!(found, Certificate { not_before: UnixMillis(0), not_after: UnixMillis(86_400_000) });
    }

    #[test]
    fn a_damaged_certificate_is_rejected_wherever_it_ends() {
        let whole = der((2027, 1, 1), (2028, 1, 1));
        assert!(read(&whole).is_some());
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), None, "cut at {end}");
        }
    }
}
