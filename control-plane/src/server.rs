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

use crate::bootstrap::{self, BootstrapError};
use crate::configuration::SettingInForce;
use crate::http;
use crate::outbound::otlp::{Exporter, OtlpError, OtlpSettings};
use crate::outbound::webhook::{Webhook, WebhookError, WebhookSettings};
use crate::service::admin_log::AdminLog;
use crate::service::app::App;
use crate::service::audit::RequestLog;
use crate::service::authentication::Authentication;
use crate::service::fleet::{Fleet, run_sightings};
use crate::service::gateway_protocol::GatewayProtocol;
use crate::service::gateways::Gateways;
use crate::service::idempotency::IdempotencyCache;
use crate::service::jobs::checkpoints::run_checkpoints;
use crate::service::jobs::detection::run_detection;
use crate::service::jobs::gateway_loss::run_gateway_loss;
use crate::service::jobs::retention::{RetentionPeriods, run_retention};
use crate::service::keys::Keys;
use crate::service::known_tokens::KnownTokens;
use crate::service::leaks::{LeakParts, Leaks};
use crate::service::monitoring::{DeliveryFailures, Monitoring};
use crate::service::policy::Policies;
use crate::service::publisher::BuildError;
use crate::service::publisher::{Publisher, keep_spread};
use crate::service::sessions::Sessions;
use crate::service::signals::Signals;
use crate::service::tokens::Tokens;
use crate::service::vault::{self, Vault, VaultError};
use omniflow_domain::clock::{Clock, Entropy};
use omniflow_net::admission::Admission;
use omniflow_net::connections;
use omniflow_net::tls::{self, Renewal, TlsError, TlsFiles};
use omniflow_store::{Store, StoreError};
use omniflow_store_sqlite::SqliteStore;

/// How long open calls have to end once the process is asked to.
const GRACE: Duration = Duration::from_secs(10);
/// How long connections have to close when that time is over and they are cut.
const CUT: Duration = Duration::from_secs(1);

/// What a server needs to know.
#[derive(Clone, Debug)]
pub(crate) struct ServerSettings {
    /// Where it listens; port 0 for any that is free.
    pub(crate) listen: SocketAddr,
    /// Where its databases lie.
    pub(crate) data_dir: PathBuf,
    /// Where the first start writes the owner's token; `admin-token` in the data directory if not stated.
    pub(crate) admin_token_file: Option<PathBuf>,
    /// What keys begin with. Only the first start reads it.
    pub(crate) key_prefix: KeyPrefix,
    /// How long a silent gateway still counts as live.
    pub(crate) gateway_lease: Duration,
    /// How long after it was made a key's newest version should be replaced; `None` for never.
    pub(crate) rotation_after: Option<Duration>,
    /// For how long audit records are kept.
    pub(crate) audit_retention: Duration,
    /// For how long the arguments of calls are kept.
    pub(crate) payload_retention: Duration,
    /// Where the keys lie that seal the arguments; `payload-key` in the data directory if not stated.
    pub(crate) payload_key_file: Option<PathBuf>,
    /// Who gets findings; `None` for nobody.
    pub(crate) webhook: Option<WebhookSettings>,
    /// Where callers reach the gateways; `None` if nobody has said.
    pub(crate) gateway_url: Option<String>,
    /// All settings as an operator gave them, for people to read.
    pub(crate) in_force: Vec<SettingInForce>,
    /// Who gets the audit log; `None` for nobody.
    pub(crate) otlp: Option<OtlpSettings>,
    /// Certificate and key; `None` for plain HTTP.
    pub(crate) tls: Option<TlsFiles>,
    /// The wall clock.
    pub(crate) clock: Clock,
    /// Random bytes.
    pub(crate) entropy: Entropy,
}

/// A server that accepts calls.
pub(crate) struct Server {
    address: SocketAddr,
    app: Arc<App>,
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
pub(crate) enum ServerError {
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

#[cfg(any(test, fuzzing))]
impl ServerSettings {
    /// The defaults, over a folder of a test's own and on any port.
    pub(crate) fn in_folder(folder: &std::path::Path, clock: Clock) -> Self {
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
    pub(crate) async fn start(settings: ServerSettings) -> Result<Self, ServerError> {
        // From here on, whoever asks for a renewal does not end the process.
        let hangup = signal(SignalKind::hangup()).map_err(ServerError::Signal)?;
        let renewal =
            settings.tls.clone().map(|files| Renewal::start(files, settings.clock.clone())).transpose()?;
        let listen_error = |source| ServerError::Listen { address: settings.listen, source };
        let listener = connections::listen(settings.listen).map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let app = Arc::new(open(&settings).await?);
        let building = spawn_blocking({
            let (app, handle) = (Arc::clone(&app), Handle::current());
            move || handle.block_on(app.publisher.build_image())
        });
        let connections = ServerHandle::new();
        let tls = renewal.as_ref().map(Renewal::served);
        let router = http::router(Arc::clone(&app));
        let admission = Arc::clone(&app.admission);
        let serving = connections::serve(listener, router, tls, admission, connections.clone());
        let remembering = tokio::spawn({
            let app = Arc::clone(&app);
            async move { run_sightings(&app.fleet, &*app.store, &app.signals).await }
        });
        let purging = tokio::spawn({
            let app = Arc::clone(&app);
            async move {
                let App { store, signals, fleet, clock, retention, .. } = &*app;
                run_retention(&**store, signals, fleet, clock, *retention).await;
            }
        });
        let looking = tokio::spawn({
            let app = Arc::clone(&app);
            async move {
                run_detection(&*app.store, &app.signals, &app.clock, app.webhook.is_some()).await;
            }
        });
        let sending = tokio::spawn({
            let app = Arc::clone(&app);
            async move {
                let Some(webhook) = &app.webhook else { return };
                let committed = app.signals.finding_committed.subscribe();
                tokio::select! {
                    () = webhook.run(&*app.store, &app.clock, committed) => {}
                    () = app.signals.stopped() => {}
                }
            }
        });
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
        let exporting = tokio::spawn({
            let app = Arc::clone(&app);
            async move {
                let Some(exporter) = &app.exporter else { return };
                let committed = app.signals.audit_committed.subscribe();
                let installation = app.publisher.installation.id;
                tokio::select! {
                    () = exporter.run(installation, &*app.store, &app.clock, committed) => {}
                    () = app.signals.stopped() => {}
                }
            }
        });
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
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is done or the server cannot go on, then lets open calls end and closes the databases.
    pub(crate) async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), ServerError> {
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

/// Opens the data directory and makes what a first start makes. The image is not built yet.
pub(crate) async fn open(settings: &ServerSettings) -> Result<App, ServerError> {
    let webhook = settings.webhook.as_ref().map(Webhook::new).transpose()?;
    // Before anything is made: what is refused leaves nothing behind.
    if let Some(file) = &settings.payload_key_file {
        vault::check_key_file(file).map_err(VaultError::from)?;
    }
    let exporter = settings.otlp.as_ref().map(Exporter::new).transpose()?;
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&settings.data_dir).await?);
    if exporter.is_some() {
        let mut transaction = store.begin_log().await?;
        transaction.begin_export().await?;
        transaction.commit().await?;
    }
    let default_file = settings.data_dir.join("admin-token");
    let token_file = settings.admin_token_file.as_ref().unwrap_or(&default_file);
    let (clock, entropy) = (settings.clock.clone(), settings.entropy.clone());
    let installation =
        bootstrap::installation(&*store, &clock, &entropy, &settings.key_prefix, token_file).await?;
    let vault = Arc::new(open_vault(settings, &*store).await?);
    let known_tokens = Arc::new(KnownTokens::read(&*store).await?);
    let signals = Signals::default();
    let idempotency: Arc<IdempotencyCache> = Arc::default();
    let fleet = Arc::new(Fleet::new(clock.clone(), settings.gateway_lease));
    fleet.recall(&*store).await?;
    let publisher = Arc::new(Publisher::new(Arc::clone(&store), installation, clock.clone()));
    let failures = DeliveryFailures {
        webhook: webhook.as_ref().map(Webhook::failures),
        otlp: exporter.as_ref().map(Exporter::failures),
    };
    let retention =
        RetentionPeriods { records: settings.audit_retention, payloads: settings.payload_retention };
    let authentication = Arc::new(Authentication::new(
        Arc::clone(&store),
        Arc::clone(&known_tokens),
        signals.clone(),
        clock.clone(),
    ));
    let tokens = Arc::new(Tokens::new(
        Arc::clone(&store),
        known_tokens,
        signals.clone(),
        Arc::clone(&idempotency),
        publisher.installation.key_prefix.clone(),
        clock.clone(),
        entropy.clone(),
    ));
    let sessions = Arc::new(Sessions::new(
        Arc::clone(&store),
        Arc::clone(&authentication),
        clock.clone(),
        entropy.clone(),
    ));
    let enforcement_watch = http::EnforcementWatch::new(&fleet, &publisher, &signals);
    let keys = Keys {
        store: Arc::clone(&store),
        publisher: Arc::clone(&publisher),
        fleet: Arc::clone(&fleet),
        signals: signals.clone(),
        idempotency: Arc::clone(&idempotency),
        rotation_after: settings.rotation_after,
        clock: clock.clone(),
        entropy: entropy.clone(),
    };
    let policies = Policies::new(&store, &publisher, &fleet, &signals, &clock);
    let leaks = LeakParts {
        store: &store,
        publisher: &publisher,
        fleet: &fleet,
        signals: &signals,
        idempotency: &idempotency,
    };
    let leaks = Leaks::new(leaks, settings.rotation_after, &clock, &entropy);
    Ok(App {
        request_log: Arc::new(RequestLog::new(
            Arc::clone(&store),
            Arc::clone(&vault),
            signals.clone(),
            clock.clone(),
            retention.payloads,
        )),
        admin_log: Arc::new(AdminLog::new(Arc::clone(&store))),
        gateways: Arc::new(Gateways::new(Arc::clone(&fleet), Arc::clone(&publisher))),
        gateway_protocol: Arc::new(GatewayProtocol::new(
            Arc::clone(&store),
            Arc::clone(&publisher),
            Arc::clone(&fleet),
            Arc::clone(&vault),
            signals.clone(),
            clock.clone(),
        )),
        monitoring: Arc::new(Monitoring::new(
            Arc::clone(&store),
            Arc::clone(&publisher),
            Arc::clone(&fleet),
            clock.clone(),
            failures,
        )),
        store,
        publisher,
        signals,
        fleet,
        retention,
        gateway_url: settings.gateway_url.clone(),
        authentication,
        tokens,
        sessions,
        console: Arc::new(console(settings)),
        enforcement_watch: Arc::new(enforcement_watch),
        admission: Arc::new(Admission::new(connections::most_connections())),
        clock,
        entropy,
        webhook,
        exporter,
        idempotency,
        keys: Arc::new(keys),
        policies: Arc::new(policies),
        leaks: Arc::new(leaks),
    })
}

async fn open_vault(settings: &ServerSettings, store: &dyn Store) -> Result<Vault, VaultError> {
    let default_file = settings.data_dir.join("payload-key");
    let key_file = settings.payload_key_file.as_ref().unwrap_or(&default_file);
    Vault::open(key_file, &*store, settings.entropy.clone()).await
}

/// The state of the console under these settings.
fn console(settings: &ServerSettings) -> http::ConsoleState {
    let effective = settings.in_force.iter().map(|setting| http::EffectiveSetting {
        name: setting.name,
        meaning: setting.meaning,
        value: setting.value.clone(),
        source: setting.source.clone(),
    });
    http::ConsoleState::new(effective.collect(), settings.tls.is_some())
}

#[cfg(test)]
mod tests;
