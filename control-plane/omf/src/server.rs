//! The process that serves: from the data directory to open ports, and back.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum_server::Handle as ServerHandle;
use omniflow_policy::key::KeyPrefix;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::timeout;

use crate::bootstrap::BootstrapError;
use crate::composition::ControlPlane;
use crate::configuration::SettingInForce;
use crate::router;
use omniflow_domain::clock::{Clock, Entropy};
use omniflow_net::connections;
use omniflow_net::tls::{self, Renewal, TlsError, TlsFiles};
use omniflow_outbound::otlp::{OtlpError, OtlpSettings};
use omniflow_outbound::webhook::{WebhookError, WebhookSettings};
use omniflow_service::fleet::run_sightings;
use omniflow_service::jobs::checkpoints::run_checkpoints;
use omniflow_service::jobs::detection::run_detection;
use omniflow_service::jobs::gateway_loss::run_gateway_loss;
use omniflow_service::jobs::retention::run_retention;
use omniflow_service::publisher::BuildError;
use omniflow_service::publisher::keep_spread;
use omniflow_service::vault::VaultError;
use omniflow_store::StoreError;

/// How long open calls have to end once the process is asked to.
const GRACE: Duration = Duration::from_secs(10);
/// How long connections have to close when that time is over and they are cut.
const CUT: Duration = Duration::from_secs(1);

/// What a server needs to know.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Where it listens; port 0 for any that is free.
    pub listen: SocketAddr,
    /// Where its databases lie.
    pub data_dir: PathBuf,
    /// Where the first start writes the owner's token; `admin-token` in the data directory if not stated.
    pub admin_token_file: Option<PathBuf>,
    /// What keys begin with. Only the first start reads it.
    pub key_prefix: KeyPrefix,
    /// How long a silent gateway still counts as live.
    pub gateway_lease: Duration,
    /// How long after it was made a key's newest version should be replaced; `None` for never.
    pub rotation_after: Option<Duration>,
    /// For how long audit records are kept.
    pub audit_retention: Duration,
    /// For how long the arguments of calls are kept.
    pub payload_retention: Duration,
    /// Where the keys lie that seal the arguments; `payload-key` in the data directory if not stated.
    pub payload_key_file: Option<PathBuf>,
    /// Who gets findings; `None` for nobody.
    pub webhook: Option<WebhookSettings>,
    /// Where callers reach the gateways; `None` if nobody has said.
    pub gateway_url: Option<String>,
    /// All settings as an operator gave them, for people to read.
    pub in_force: Vec<SettingInForce>,
    /// Who gets the audit log; `None` for nobody.
    pub otlp: Option<OtlpSettings>,
    /// Certificate and key; `None` for plain HTTP.
    pub tls: Option<TlsFiles>,
    /// The wall clock.
    pub clock: Clock,
    /// Random bytes.
    pub entropy: Entropy,
}

/// A server that accepts calls.
pub struct Server {
    address: SocketAddr,
    app: Arc<ControlPlane>,
    connections: ServerHandle<SocketAddr>,
    serving: JoinHandle<io::Result<()>>,
    building: JoinHandle<Result<(), BuildError>>,
    remembering: JoinHandle<()>,
    purging: JoinHandle<()>,
    looking: JoinHandle<()>,
    sending: JoinHandle<()>,
    spreading: JoinHandle<()>,
    checkpointing: JoinHandle<()>,
    watching: JoinHandle<()>,
    exporting: JoinHandle<()>,
    renewing: JoinHandle<()>,
}

/// Why a server cannot start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The webhook's secret cannot be used.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// The export of the audit log cannot be set up.
    #[error(transparent)]
    Otlp(#[from] OtlpError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Storage(#[from] StoreError),
    /// The keys that seal the arguments of calls cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The first start failed.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The image of all keys cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The address is taken or cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The operating system does not deliver signals.
    #[error("signals cannot be handled: {0}")]
    Signal(io::Error),
    /// Accepting calls failed.
    #[error("accepting calls failed: {0}")]
    Serve(#[from] io::Error),
    /// A part of the server ended by itself.
    #[error("a part of the server ended: {0}")]
    Ended(#[from] JoinError),
}

// === impl ServerSettings ===

#[cfg(any(test, feature = "testing", fuzzing))]
impl ServerSettings {
    /// The defaults, over a folder of a test's own and on any port.
    pub fn in_folder(folder: &std::path::Path, clock: Clock) -> Self {
        Self {
            listen: ([127, 0, 0, 1], 0).into(),
            data_dir: folder.to_owned(),
            admin_token_file: None,
            key_prefix: KeyPrefix::default(),
            gateway_lease: Duration::from_secs(60),
            rotation_after: Some(Duration::from_secs(90 * 86_400)),
            audit_retention: Duration::from_secs(90 * 86_400),
            payload_retention: Duration::from_secs(7 * 86_400),
            payload_key_file: None,
            webhook: None,
            gateway_url: None,
            in_force: Vec::new(),
            otlp: None,
            tls: None,
            clock,
            entropy: Entropy::system(),
        }
    }
}

// === impl Server ===

impl Server {
    /// Opens the data directory and the port. Calls are accepted from now on, and answered with 503 until the
    /// image of all keys is built.
    pub async fn start(settings: ServerSettings) -> Result<Self, ServerError> {
        // From here on, whoever asks for a renewal does not end the process.
        let hangup = signal(SignalKind::hangup()).map_err(ServerError::Signal)?;
        let renewal =
            settings.tls.clone().map(|files| Renewal::start(files, settings.clock.clone())).transpose()?;
        let listen_error = |source| ServerError::Listen { address: settings.listen, source };
        let listener = connections::listen(settings.listen).map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let app = Arc::new(ControlPlane::open(&settings).await?);
        let building = spawn_blocking({
            let (app, handle) = (Arc::clone(&app), Handle::current());
            move || handle.block_on(app.publisher.build_image())
        });
        let connections = ServerHandle::new();
        let tls = renewal.as_ref().map(Renewal::served);
        let router = router::router(Arc::clone(&app.api), Arc::clone(&app.console));
        let admission = Arc::clone(&app.admission);
        let serving = connections::serve(listener, router, tls, admission, connections.clone());
        let remembering = tokio::spawn({
            let app = Arc::clone(&app);
            async move { run_sightings(&app.fleet, &*app.store, &app.signals).await }
        });
        let purging = tokio::spawn({
            let app = Arc::clone(&app);
            async move {
                let ControlPlane { store, signals, fleet, clock, retention, .. } = &*app;
                run_retention(&**store, signals, fleet, clock, *retention).await;
            }
        });
        let looking = tokio::spawn({
            let app = Arc::clone(&app);
            async move {
                run_detection(&*app.store, &app.signals, &app.clock, app.webhook.is_some()).await;
            }
        });
        let sending = tokio::spawn(run_webhook(Arc::clone(&app)));
        let spreading = tokio::spawn({
            let app = Arc::clone(&app);
            async move { keep_spread(&app.publisher, &app.signals).await }
        });
        let checkpointing = tokio::spawn({
            let app = Arc::clone(&app);
            async move { run_checkpoints(&*app.store, &app.signals).await }
        });
        let watching = tokio::spawn({
            let app = Arc::clone(&app);
            async move { run_gateway_loss(&*app.store, &app.signals, &app.fleet).await }
        });
        let exporting = tokio::spawn(run_export(Arc::clone(&app)));
        let renewing = match renewal {
            Some(renewal) => tokio::spawn(renewal.run(hangup)),
            None => tokio::spawn(tls::without_certificate(hangup)),
        };
        Ok(Self {
            address,
            app,
            connections,
            serving,
            building,
            remembering,
            purging,
            looking,
            sending,
            spreading,
            checkpointing,
            watching,
            exporting,
            renewing,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is done or the server cannot go on, then lets open calls end and closes the databases.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), ServerError> {
        let Self {
            app,
            connections,
            mut serving,
            mut building,
            remembering,
            purging,
            looking,
            sending,
            spreading,
            checkpointing,
            watching,
            exporting,
            renewing,
            ..
        } = self;
        let (mut built, mut served) = (false, false);
        tokio::pin!(stop);
        let outcome = loop {
            tokio::select! {
                result = &mut building, if !built => {
                    // Whatever has come of it: a task that has ended must not be waited for again.
                    built = true;
                    match result.map_err(ServerError::from) {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => break Err(error.into()),
                        Err(error) => break Err(error),
                    }
                }
                result = &mut serving => {
                    served = true;
                    break result.map_err(ServerError::from).and_then(|result| Ok(result?));
                }
                () = &mut stop => break Ok(()),
            }
        };
        app.signals.stopping.send_replace(true);
        renewing.abort();
        connections.graceful_shutdown(None);
        if !served && timeout(GRACE, &mut serving).await.is_err() {
            tracing::warn!("some calls did not end in time");
            connections.shutdown();
            let _ = timeout(CUT, &mut serving).await;
        }
        // It holds the data directory, which is free for another process when this returns.
        if !built && timeout(GRACE, &mut building).await.is_err() {
            tracing::warn!("the image of all keys was still being built");
        }
        if let Err(error) = remembering.await {
            tracing::warn!(%error, "gateways were not noted");
        }
        if let Err(error) = purging.await {
            tracing::warn!(%error, "the purge of audit records ended by itself");
        }
        for (task, what) in [
            (looking, "the search for patterns"),
            (sending, "the webhook"),
            (spreading, "the making of larger images"),
            (checkpointing, "the folding of the write-ahead log"),
            (watching, "the watch for gateways that are gone"),
            (exporting, "the export of the audit log"),
        ] {
            if let Err(error) = task.await {
                tracing::warn!(%error, "{what} ended by itself");
            }
        }
        app.store.close().await;
        tracing::info!("stopped");
        outcome
    }
}

/// Sends anomalies to the webhook, if one is set, until the server stops.
async fn run_webhook(app: Arc<ControlPlane>) {
    let Some(webhook) = &app.webhook else { return };
    let committed = app.signals.finding_committed.subscribe();
    tokio::select! {
        () = webhook.run(&*app.store, &app.clock, committed) => {}
        () = app.signals.stopped() => {}
    }
}

/// Exports the audit log over OTLP, if a collector is set, until the server stops.
async fn run_export(app: Arc<ControlPlane>) {
    let Some(exporter) = &app.exporter else { return };
    let committed = app.signals.audit_committed.subscribe();
    let installation = app.publisher.installation.id;
    tokio::select! {
        () = exporter.run(installation, &*app.store, &app.clock, committed) => {}
        () = app.signals.stopped() => {}
    }
}

#[cfg(test)]
mod tests;
