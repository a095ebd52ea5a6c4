//! Reloads renewed certificates.

use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use omniflow_policy::time::UnixMillis;
use tokio::signal::unix::Signal;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::certificate::{Certificate, CertificateExpiry};
use super::files::{Loaded, Pem, TlsError, TlsFiles, load};
use omniflow_domain::clock::Clock;
use omniflow_domain::time::{DAY_MS, format_time};

/// Interval of checks for changed files.
const INTERVAL: Duration = Duration::from_secs(60);
/// Interval of errors that clients reject the certificate, in milliseconds.
const REMINDER_MS: u64 = DAY_MS;

/// The current certificate, and the files that it is reloaded from.
#[derive(Debug)]
pub struct Renewal {
    files: TlsFiles,
    clock: Clock,
    served: RustlsConfig,
    loaded: Loaded,
    expiry: CertificateExpiry,
    /// When the rejection of the certificate was last logged.
    reported_at: Option<UnixMillis>,
}

/// Replaces [`Renewal::run`] without a certificate: logs a SIGHUP, which would end the process otherwise.
pub async fn without_certificate(mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        tracing::info!("SIGHUP ignored, TLS is not configured");
    }
}

// === impl Renewal ===

impl Renewal {
    /// Reads the files.
    pub fn start(files: TlsFiles, clock: Clock) -> Result<Self, TlsError> {
        let loaded = load(&files)?;
        let served = RustlsConfig::from_config(Arc::clone(&loaded.config));
        let expiry = CertificateExpiry::default();
        let mut renewal = Self { files, clock, served, loaded, expiry, reported_at: None };
        renewal.tell();
        Ok(renewal)
    }

    /// The TLS configuration of the listener, which each renewal updates.
    pub fn served(&self) -> RustlsConfig {
        self.served.clone()
    }

    /// When the certificate in use expires.
    pub fn expiry(&self) -> CertificateExpiry {
        self.expiry.clone()
    }

    /// Checks the files every minute and whenever a signal arrives, for as long as it is polled. Files that cannot be
    /// used are reported, and the current certificate stays in use.
    pub async fn run(mut self, mut hangup: Signal) {
        loop {
            tokio::select! {
                _ = hangup.recv() => tracing::info!("SIGHUP received, checking for a renewed certificate"),
                () = sleep(INTERVAL) => {}
            }
            match self.check_files().await {
                Ok(Some(loaded)) => {
                    self.served.reload_from_config(Arc::clone(&loaded.config));
                    self.loaded = loaded;
                    self.reported_at = None;
                    self.tell();
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, "renewed certificate rejected, keeping the current one");
                }
            }
            self.remind();
        }
    }

    /// Loads the files if they have changed and are not worse than the current certificate.
    async fn check_files(&self) -> Result<Option<Loaded>, TlsError> {
        let files = self.files.clone();
        let pem = spawn_blocking(move || Pem::read(&files)).await??;
        if pem.seen() == self.loaded.seen {
            return Ok(None);
        }
        let renewed = pem.load(&self.files)?;
        match worse(renewed.certificate, self.loaded.certificate, self.clock.now()) {
            Some(what) => Err(TlsError::Unfit { path: self.files.certificate.clone(), what }),
            None => Ok(Some(renewed)),
        }
    }

    fn tell(&mut self) {
        self.expiry.set(self.loaded.certificate.not_after);
        tracing::info!(valid_until = format_time(self.loaded.certificate.not_after), "certificate loaded");
        for warning in &self.loaded.warnings {
            tracing::warn!(%warning, "certificate may be rejected by clients");
        }
        self.remind();
    }

    fn remind(&mut self) {
        if let Some(what) = self.reminder() {
            tracing::error!(reason = what, "clients reject the certificate");
        }
    }

    /// Returns, once a day, why clients reject the certificate.
    fn reminder(&mut self) -> Option<String> {
        let now = self.clock.now();
        let what = self.loaded.certificate.unfit_at(now)?;
        let is_due =
            self.reported_at.is_none_or(|reported_at| now.0.saturating_sub(reported_at.0) >= REMINDER_MS);
        is_due.then(|| {
            self.reported_at = Some(now);
            what
        })
    }
}

/// Explains why a renewed certificate must not replace the current one: clients would reject it, but accept the current
/// one.
fn worse(renewed: Certificate, served: Certificate, now: UnixMillis) -> Option<String> {
    renewed.unfit_at(now).filter(|_| served.unfit_at(now).is_none())
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::atomic::{AtomicU64, Ordering};

    use tempfile::TempDir;

    use super::*;

    /// Creates a certificate that is valid for this many days, and its key.
    fn make(folder: &TempDir, days: u32, options: &[&str]) -> TlsFiles {
        let path = |name: &str| folder.path().join(name);
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        openssl.args(["-subj", "/CN=x", "-days", &days.to_string()]).args(options);
        openssl.arg("-keyout").arg(path("tls.key")).arg("-out").arg(path("tls.crt"));
        let output = openssl.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        TlsFiles { certificate: path("tls.crt"), key: path("tls.key") }
    }

    fn clock_at(time: &Arc<AtomicU64>) -> Clock {
        let time = Arc::clone(time);
        Clock::from_fn(move || UnixMillis(time.load(Ordering::Relaxed)))
    }

    #[tokio::test]
    async fn what_clients_refuse_replaces_nothing_that_they_take() {
        let folder = tempfile::tempdir().unwrap();
        let files = make(&folder, 9, &[]);
        let time = Arc::new(AtomicU64::new(Clock::system().now().0 + DAY_MS));
        let mut renewal = Renewal::start(files, clock_at(&time)).unwrap();
        assert!(renewal.check_files().await.unwrap().is_none(), "nothing has changed");
        make(&folder, 3, &[]);
        assert!(renewal.check_files().await.unwrap().is_some(), "both are valid");
        time.fetch_add(4 * DAY_MS, Ordering::Relaxed);
        let error = renewal.check_files().await.unwrap_err();
        assert!(error.to_string().contains("expired on"), "{error}");
        time.fetch_add(9 * DAY_MS, Ordering::Relaxed);
        assert!(renewal.check_files().await.unwrap().is_some(), "neither is");

        assert!(renewal.reminder().unwrap().contains("expired on"));
        assert_eq!(renewal.reminder(), None);
        time.fetch_add(DAY_MS - 1, Ordering::Relaxed);
        assert_eq!(renewal.reminder(), None);
        time.fetch_add(1, Ordering::Relaxed);
        assert!(renewal.reminder().is_some());
        time.store(Clock::system().now().0, Ordering::Relaxed);
        assert_eq!(renewal.reminder(), None);
    }

    #[test]
    fn one_that_is_not_valid_yet_waits_for_its_time() {
        let from = |not_before, not_after| Certificate {
            not_before: UnixMillis(not_before),
            not_after: UnixMillis(not_after),
        };
        assert!(worse(from(20, 40), from(0, 30), UnixMillis(10)).unwrap().contains("not valid until"));
        assert_eq!(worse(from(20, 40), from(0, 30), UnixMillis(20)), None);
        assert_eq!(worse(from(20, 40), from(0, 5), UnixMillis(10)), None);
    }

    #[test]
    fn what_clients_will_say_is_known_before() {
        use super::super::CertificateWarning::{Authority, Nameless, Purpose};
        let folder = tempfile::tempdir().unwrap();
        let (no_ca, name) = ("basicConstraints=critical,CA:FALSE", "subjectAltName=DNS:localhost");
        for (extensions, expected) in [
            (&[][..], &[Authority, Nameless][..]),
            (&[name], &[Authority]),
            (&[no_ca], &[Nameless]),
            (&[no_ca, name], &[]),
            (&[no_ca, name, "extendedKeyUsage=serverAuth"], &[]),
            (&[no_ca, name, "extendedKeyUsage=clientAuth"], &[Purpose]),
        ] {
            let options: Vec<&str> = extensions.iter().flat_map(|one| ["-addext", one]).collect();
            let loaded = load(&make(&folder, 9, &options)).unwrap();
            assert_eq!(loaded.warnings, expected, "{extensions:?}");
        }
    }
}
