//! TLS: reads the certificate and its key from files, and reloads them when they change.

mod certificate;
mod files;
mod renewal;
mod warning;

pub use self::certificate::{Certificate, CertificateExpiry};
pub use self::files::{Loaded, TlsError, TlsFiles, load, unreadable};
pub use self::renewal::{Renewal, without_certificate};
pub use self::warning::CertificateWarning;
