//! TLS: the certificate and its key, read from their files and again whenever these change.

mod certificate;
mod files;
mod renewal;
mod warning;

pub use self::certificate::Certificate;
pub use self::files::{Loaded, TlsError, TlsFiles, load, unreadable};
pub use self::renewal::{Renewal, without_certificate};
pub use self::warning::CertificateWarning;
