//! Certificates that are renewed while they are served.

use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::{Content, Loaded, TlsError, TlsFiles};
use crate::clock::Clock;
use crate::json::time::format_time;

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(60);

/// What is served, and the files that it came from.
#[derive(Debug)]
pub(crate) struct Renewal {
    files: TlsFiles,
    clock: Clock,
    served: RustlsConfig,
    loaded: Loaded,
}

// === impl Renewal ===

impl Renewal {
    /// Reads the files for the first time.
    pub(crate) fn start(files: TlsFiles, clock: Clock) -> Result<Self, TlsError> {
        let loaded = super::load(&files)?;
        let served = RustlsConfig::from_config(Arc::clone(&loaded.config));
        let renewal = Self { files, clock, served, loaded };
        renewal.tell();
        Ok(renewal)
    }

    /// What is served, now and after each renewal.
    pub(crate) fn served(&self) -> RustlsConfig {
        self.served.clone()
    }

    /// Looks at the files every minute and whenever SIGHUP arrives, for as long as it is polled. Files that cannot be
    /// used are told, and what was served before is still.
    pub(crate) async fn run(mut self) {
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => hangup,
            Err(error) => {
                tracing::error!(%error, "the certificate will not be renewed before the next start");
                return;
            }
        };
        loop {
            tokio::select! {
                _ = hangup.recv() => tracing::info!("asked to look for a renewed certificate"),
                () = sleep(INTERVAL) => {}
            }
            match self.look().await {
                Ok(Some(loaded)) => {
                    self.served.reload_from_config(Arc::clone(&loaded.config));
                    self.loaded = loaded;
                    self.tell();
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, "a renewed certificate cannot be used; the old one is served");
                }
            }
        }
    }

    /// What the files hold, if that is not what is served.
    async fn look(&self) -> Result<Option<Loaded>, TlsError> {
        let files = self.files.clone();
        let read = spawn_blocking(move || Content::read(&files)).await;
        let Ok(content) = read else { return Ok(None) };
        let content = content?;
        if content == self.loaded.files { Ok(None) } else { content.load(&self.files).map(Some) }
    }

    fn tell(&self) {
        let certificate = self.loaded.certificate;
        if let Some(what) = certificate.unfit_at(self.clock.now()) {
            tracing::error!("{what}; clients refuse it");
        }
        tracing::info!(valid_until = format_time(certificate.not_after), "certificate loaded");
    }
}
