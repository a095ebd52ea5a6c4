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
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::timeout;

use crate::admission::Admission;
use crate::app::{App, BuildError, keep_spread};
use crate::bootstrap::{self, BootstrapError};
use crate::checkpoints::keep_checkpoints;
use crate::clock::{Clock, Entropy};
use crate::configuration::SettingInForce;
use crate::connections;
use crate::detection::keep_looking;
use crate::fleet::{Fleet, keep_memory};
use crate::gateway_loss::keep_watching;
use crate::http;
use crate::known_tokens::KnownTokens;
use crate::otlp::{Exporter, OtlpError, OtlpSettings, keep_exporting};
use crate::publication::Publication;
use crate::retention::keep_retention;
use crate::storage::{Storage, StorageError};
use crate::tls::{self, Renewal, TlsError, TlsFiles};
use crate::vault::{self, Vault, VaultError};
use crate::webhook::{Webhook, WebhookError, WebhookSettings, keep_sending};

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
    Storage(#[from] StorageError),
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
            move || handle.block_on(app.build_image())
        });
        let connections = ServerHandle::new();
        let tls = renewal.as_ref().map(Renewal::served);
        let router = http::router(Arc::clone(&app));
        let admission = Arc::clone(&app.admission);
        let serving = connections::serve(listener, router, tls, admission, connections.clone());
        let remembering = tokio::spawn({
            let app = Arc::clone(&app);
            async move { keep_memory(&app).await }
        });
        let purging = tokio::spawn({
            let app = Arc::clone(&app);
            async move { keep_retention(&app).await }
        });
        let looking = tokio::spawn({
            let app = Arc::clone(&app);
            async move { keep_looking(&app).await }
        });
        let sending = tokio::spawn({
            let app = Arc::clone(&app);
            async move { keep_sending(&app).await }
        });
        let spreading = tokio::spawn({
            let app = Arc::clone(&app);
            async move { keep_spread(&app).await }
        });
        let checkpointing = tokio::spawn({
            let app = Arc::clone(&app);
            async move { keep_checkpoints(&app).await }
        });
        let watching = tokio::spawn({
            let app = Arc::clone(&app);
            async move { keep_watching(&app).await }
        });
        let exporting = tokio::spawn({
            let app = Arc::clone(&app);
            async move { keep_exporting(&app).await }
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
                result = &mut building, if !built => match result.map_err(ServerError::from) {
                    Ok(Ok(())) => built = true,
                    Ok(Err(error)) => break Err(error.into()),
                    Err(error) => break Err(error),
                },
                result = &mut serving => {
                    served = true;
                    break result.map_err(ServerError::from).and_then(|result| Ok(result?));
                }
                () = &mut stop => break Ok(()),
            }
        };
        app.stopping.send_replace(true);
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
        app.storage.close().await;
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
    let storage = Storage::open(&settings.data_dir).await?;
    if exporter.is_some() {
        let mut writer = storage.audit.writer().await;
        let mut transaction = writer.begin().await?;
        transaction.begin_export().await?;
        transaction.commit().await?;
    }
    let default_file = settings.data_dir.join("admin-token");
    let token_file = settings.admin_token_file.as_ref().unwrap_or(&default_file);
    let (clock, entropy) = (settings.clock.clone(), settings.entropy.clone());
    let installation =
        bootstrap::installation(&storage, &clock, &entropy, &settings.key_prefix, token_file).await?;
    let default_file = settings.data_dir.join("payload-key");
    let key_file = settings.payload_key_file.as_ref().unwrap_or(&default_file);
    let vault = Vault::open(key_file, &storage.audit, entropy.clone()).await?;
    let known_tokens = KnownTokens::read(&storage.main).await?;
    let fleet = Arc::new(Fleet::new(clock.clone(), settings.gateway_lease));
    fleet.recall(&storage.main).await?;
    let stopping = watch::Sender::new(false);
    Ok(App {
        storage,
        installation,
        publication: Publication::empty(),
        fleet,
        rotation_after: settings.rotation_after,
        audit_retention: settings.audit_retention,
        payload_retention: settings.payload_retention,
        vault,
        gateway_url: settings.gateway_url.clone(),
        settings: settings.in_force.clone(),
        followed: http::Followed::default(),
        known_tokens,
        admission: Arc::new(Admission::new(connections::most_connections())),
        throttle: http::Throttle::default(),
        serves_tls: settings.tls.is_some(),
        clock,
        entropy,
        token_revoked: watch::Sender::new(()),
        audit_committed: watch::Sender::new(()),
        finding_committed: watch::Sender::new(()),
        webhook,
        crowded: Notify::new(),
        exporter,
        key_counts: http::KeyCounts::default(),
        last_pass: Mutex::new(None),
        replaying: Mutex::new(()),
        answers: http::Answers::default(),
        stopping,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use axum::http::StatusCode;
    use serde_json::json;
    use tokio::sync::oneshot;
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    use super::*;
    use crate::http::testing::{Plane, START, record, settings};

    #[tokio::test]
    async fn a_restart_keeps_everything() {
        let plane = Plane::new().await;
        let gateway = plane.token("gateway").await;
        plane.key("kept").await;
        plane.key("gone").await;
        plane.post("/v1/keys/gone/revoke", json!({})).await.expect(StatusCode::OK);
        plane.deliver(&gateway, vec![record(0, START, None)]).await;
        let read = async |plane: &Plane| {
            let mut all = Vec::new();
            for path in ["/v1/keys", "/v1/tokens", "/v1/policy", "/v1/audit"] {
                all.push(plane.get(path).await.expect(StatusCode::OK));
            }
            all
        };
        let before = (read(&plane).await, plane.app.publication.image().unwrap());
        let owner = plane.owner.clone();
        let plane = plane.restart().await;
        assert_eq!(plane.owner, owner, "the token is made once");
        assert_eq!(read(&plane).await, before.0);
        let image = plane.app.publication.image().unwrap();
        assert_eq!(image.manifest(), before.1.manifest());
        assert_eq!(image.len(), 2);
        plane.deliver(&gateway, vec![record(0, START, None)]).await;
        let audit = plane.get("/v1/audit").await.expect(StatusCode::OK);
        assert_eq!(audit["items"].as_array().unwrap().len(), 1, "a repeat is known after a restart too");
    }

    /// What `revoke?wait` answers at once.
    async fn enforcement(plane: &Plane) -> serde_json::Value {
        let answer = plane.post("/v1/keys/ci/revoke?wait=0s", json!({})).await.expect(StatusCode::OK);
        answer["enforcement"].clone()
    }

    #[tokio::test]
    async fn a_restarted_control_plane_waits_for_the_gateways_that_it_knew() {
        let plane = Plane::new().await;
        plane.key("ci").await;
        let token = plane.token("gateway").await;
        let poll = async |plane: &Plane, incarnation: &str| {
            let version = plane.app.publication.version().unwrap();
            let body = json!({
                "gateway": "edge", "incarnation": incarnation, "filter_version": "0.1.0", "snapshot_format": 1,
                "installation": plane.app.installation.id, "version": version, "wait_ms": 0,
                "vms": [{"id": "0000000000000001", "version": version}],
            });
            let request =
                http::testing::request(axum::http::Method::POST, "/gateway/v1/poll", &token, Some(body));
            assert_eq!(plane.call(request).await.status, StatusCode::NO_CONTENT);
        };
        poll(&plane, "000000000000000b").await;
        plane.pass(Duration::from_secs(300));
        poll(&plane, "000000000000000a").await;
        plane.app.fleet.memorise(&plane.app.storage.main).await.unwrap();
        plane.pass(Duration::from_secs(150));
        let plane = plane.restart().await;
        let silent = |incarnation: &str, seen: &str| json!({"id": format!("edge/{incarnation}"), "last_seen_at": format!("2027-01-15T{seen}.000Z")});

        // One was heard of a little more than a lease ago and may be live; the other has been silent for long.
        let now = enforcement(&plane).await;
        assert_eq!(now["complete"], false);
        assert_eq!(
            now["gateways"],
            json!([{"id": "edge/000000000000000a", "workers": 0, "enforced": false, "enforced_workers": 0, "ms": null,
                    "last_seen_at": "2027-01-15T08:05:00.000Z"}])
        );
        assert_eq!(now["silent"], json!([silent("000000000000000b", "08:00:00")]));
        let list = plane.get("/v1/gateways").await.expect(StatusCode::OK);
        assert_eq!(list["items"][0]["filter_version"], json!(null));
        assert_eq!(list["items"][0]["first_seen_at"], "2027-01-15T08:05:00.000Z");

        plane.pass(Duration::from_secs(60));
        assert_eq!(enforcement(&plane).await["complete"], false, "its lease is not over yet");
        poll(&plane, "000000000000000a").await;
        let now = enforcement(&plane).await;
        assert_eq!((&now["complete"], &now["gateways"][0]["enforced"]), (&json!(true), &json!(true)));

        plane.pass(Duration::from_secs(61));
        let now = enforcement(&plane).await;
        assert_eq!((&now["complete"], &now["gateways"]), (&json!(true), &json!([])));
        let both = json!([silent("000000000000000a", "08:08:30"), silent("000000000000000b", "08:00:00")]);
        assert_eq!(now["silent"], both);

        plane.pass(Duration::from_secs(86_400));
        assert_eq!(enforcement(&plane).await.get("silent"), None, "after a day they are forgotten");
    }

    #[tokio::test]
    async fn a_gateway_that_does_not_come_back_is_waited_for_until_its_lease_is_over() {
        let plane = Plane::new().await;
        plane.key("ci").await;
        plane.app.fleet.reported(&report(), true);
        plane.app.fleet.memorise(&plane.app.storage.main).await.unwrap();
        let plane = plane.restart().await;
        plane.pass(Duration::from_secs(60));
        let before = enforcement(&plane).await;
        assert_eq!((&before["complete"], before.get("silent")), (&json!(false), None));
        plane.pass(Duration::from_millis(1));
        let after = enforcement(&plane).await;
        assert_eq!((&after["complete"], &after["gateways"]), (&json!(true), &json!([])));
        assert_eq!(after["silent"][0]["id"], "edge/000000000000000a");
        // A restart after an outage of any length waits once more, for a lease and not for ever.
        plane.pass(Duration::from_secs(3_600));
        let plane = plane.restart().await;
        assert_eq!(enforcement(&plane).await["complete"], false);
        plane.pass(Duration::from_secs(61));
        let again = enforcement(&plane).await;
        assert_eq!(
            (&again["complete"], &again["silent"][0]["id"]),
            (&json!(true), &json!("edge/000000000000000a"))
        );
    }

    /// A gateway says that it is there.
    fn report() -> omniflow_policy::gateway::EnforcedReport {
        serde_json::from_value(json!({
            "gateway": "edge", "incarnation": "000000000000000a", "installation": null, "vms": []}))
        .unwrap()
    }

    #[tokio::test]
    async fn a_server_notes_its_gateways_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let time = Arc::new(AtomicU64::new(START));
        let server = Server::start(settings(folder.path(), &time)).await.unwrap();
        server.app.fleet.reported(&report(), true);
        server.run_until(async {}).await.unwrap();
        let app = open(&settings(folder.path(), &time)).await.unwrap();
        assert_eq!(app.fleet.list(None, 9).len(), 1);
    }

    #[tokio::test]
    async fn a_server_that_ends_by_itself_leaves_the_data_directory_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let time = Arc::new(AtomicU64::new(START));
        let server = Server::start(settings(folder.path(), &time)).await.unwrap();
        server.app.fleet.reported(&report(), true);
        let connections = server.connections.clone();
        let running = tokio::spawn(server.run_until(std::future::pending()));
        connections.shutdown();
        let ended = timeout(Duration::from_secs(30), running).await;
        ended.unwrap().unwrap().unwrap();
        let app = open(&settings(folder.path(), &time)).await.unwrap();
        assert_eq!(app.fleet.list(None, 9).len(), 1, "its gateways were noted");
    }

    #[tokio::test]
    async fn versions_only_grow_whatever_the_clock_does() {
        let plane = Plane::new().await;
        let mut last = plane.app.publication.version().unwrap();
        assert_eq!(last, START);
        for name in ["a", "b", "c"] {
            plane.key(name).await;
            let version = plane.app.publication.version().unwrap();
            assert!(version > last);
            last = version;
        }
        plane.pass(Duration::from_secs(10));
        plane.key("d").await;
        assert_eq!(plane.app.publication.version().unwrap(), START + 10_000);
    }

    #[tokio::test]
    async fn one_process_for_one_folder_and_one_port() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let time = Arc::new(AtomicU64::new(START));
        let server = Server::start(settings(&data, &time)).await.unwrap();
        let second = Server::start(settings(&data, &time)).await.err().unwrap();
        assert!(matches!(second, ServerError::Storage(StorageError::InUse(_))), "{second}");

        let elsewhere = folder.path().join("elsewhere");
        let busy = ServerSettings { listen: server.address(), ..settings(&elsewhere, &time) };
        let third = Server::start(busy).await.err().unwrap();
        assert!(matches!(third, ServerError::Listen { .. }), "{third}");
        assert!(!elsewhere.exists(), "a busy port leaves nothing behind");

        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run_until(async move {
            let _ = stopped.await;
        }));
        stop.send(()).unwrap();
        running.await.unwrap().unwrap();
        Server::start(settings(&data, &time)).await.unwrap();
    }

    /// Counts what is logged as a warning or an error.
    #[derive(Clone, Default)]
    struct Complaints(Arc<AtomicUsize>);

    impl<S: tracing::Subscriber> Layer<S> for Complaints {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            if *event.metadata().level() <= tracing::Level::WARN {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    #[tokio::test]
    async fn calls_before_the_image_is_built_are_told_to_come_back() {
        let complaints = Complaints::default();
        let subscriber = tracing_subscriber::registry().with(complaints.clone());
        let _logging = tracing::subscriber::set_default(subscriber);
        let folder = tempfile::tempdir().unwrap();
        let time = Arc::new(AtomicU64::new(START));
        let app = Arc::new(open(&settings(folder.path(), &time)).await.unwrap());
        let owner = std::fs::read_to_string(folder.path().join("admin-token")).unwrap();
        let router = http::router(Arc::clone(&app));
        let call = async |path: &str, body: serde_json::Value| {
            let method = if body.is_null() { "GET" } else { "POST" }.parse().unwrap();
            let body = Some(body).filter(|body| !body.is_null());
            let request = http::testing::request(method, path, owner.trim(), body);
            http::testing::send(router.clone(), request).await
        };
        assert_eq!(call("/healthz", json!(null)).await.status, StatusCode::OK);
        let body = json!({"name": "x", "environment": "live", "scopes": []});
        for answer in [call("/readyz", json!(null)).await, call("/v1/keys", body).await] {
            assert_eq!(answer.problem().1, "not_ready");
            assert_eq!(answer.headers["retry-after"], "1");
        }
        assert_eq!(complaints.0.load(Ordering::Relaxed), 0, "nothing is wrong yet");
        app.build_image().await.unwrap();
        assert_eq!(call("/readyz", json!(null)).await.status, StatusCode::OK);
        app.storage.close().await;
        assert_eq!(call("/readyz", json!(null)).await.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(complaints.0.load(Ordering::Relaxed) > 0, "a database that fails is told");
    }

    #[tokio::test]
    async fn the_owners_token_goes_where_it_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let time = Arc::new(AtomicU64::new(START));
        let token_file = folder.path().join("owner");
        let settings = ServerSettings {
            admin_token_file: Some(token_file.clone()),
            key_prefix: KeyPrefix::parse("acme").unwrap(),
            ..settings(&folder.path().join("data"), &time)
        };
        let app = open(&settings).await.unwrap();
        let token = std::fs::read_to_string(&token_file).unwrap();
        assert!(token.starts_with("acme_token_") && token.ends_with('\n'));
        assert_eq!(std::fs::metadata(&token_file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!folder.path().join("data/admin-token").exists());
        assert_eq!(app.installation.key_prefix.as_str(), "acme");
        assert_eq!(app.storage.main.policy().await.unwrap().document.key_prefix.as_str(), "acme");
        for file in std::fs::read_dir(folder.path().join("data")).unwrap() {
            let file = file.unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
        }
    }
}
