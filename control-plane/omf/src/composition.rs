//! Composition of the control plane from its components.

use std::sync::Arc;

use omniflow_api::state::Api;
use omniflow_console::Console;
use omniflow_console::state::ConsoleState;
use omniflow_domain::clock::{Clock, Entropy};
use omniflow_net::connection_table::ConnectionTable;
use omniflow_net::connections;
use omniflow_net::tls::CertificateExpiry;
use omniflow_outbound::otlp::Exporter;
use omniflow_outbound::source::DeliverySource;
use omniflow_outbound::webhook::Webhook;
use omniflow_policy::time::UnixMillis;
use omniflow_service::admin_log::AdminLog;
use omniflow_service::anomalies::Anomalies;
use omniflow_service::audit::RequestLog;
use omniflow_service::authentication::Authentication;
use omniflow_service::fleet::Fleet;
use omniflow_service::fleet::enforcement_watch::EnforcementWatch;
use omniflow_service::gateway_protocol::{GatewayProtocol, ProtocolParts};
use omniflow_service::gateways::Gateways;
use omniflow_service::idempotency::IdempotencyCache;
use omniflow_service::jobs::retention::RetentionPeriods;
use omniflow_service::keys::{KeyParts, Keys};
use omniflow_service::leaks::Leaks;
use omniflow_service::log_space::LogSpace;
use omniflow_service::monitoring::{DeliveryFailures, Monitoring};
use omniflow_service::notifications::Notifications;
use omniflow_service::policy::Policies;
use omniflow_service::publisher::Publisher;
use omniflow_service::sessions::Sessions;
use omniflow_service::tokens::Tokens;
use omniflow_service::vault::{self, Vault, VaultError};
use omniflow_store::Store;
use omniflow_store_sqlite::SqliteStore;

use crate::bootstrap;
use crate::error::ServerError;
use crate::metrics::Metrics;
use crate::settings::ServerSettings;

/// A running control plane. Only this crate has access to all of it: use cases, API and console have the parts they need.
pub struct ControlPlane {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Commits changes and publishes them.
    pub publisher: Arc<Publisher>,
    /// The gateways that poll.
    pub fleet: Arc<Fleet>,
    /// Notifications between components of the process.
    pub notifications: Notifications,
    /// Retention of audit records and arguments of calls.
    pub retention: RetentionPeriods,
    /// The wall clock.
    pub clock: Clock,
    /// Random bytes.
    entropy: Entropy,
    /// Open connections.
    pub connection_table: Arc<ConnectionTable>,
    /// The webhook for anomalies; `None` if not configured.
    pub webhook: Option<Webhook>,
    /// The export of the audit log; `None` if not configured.
    pub exporter: Option<Exporter>,
    /// The metrics of the process.
    pub(crate) metrics: Metrics,
    /// The state of the API.
    pub api: Arc<Api>,
    /// The state of the console.
    pub console: Arc<Console>,
}

/// Dependencies that use cases share.
struct Shared {
    store: Arc<dyn Store>,
    publisher: Arc<Publisher>,
    fleet: Arc<Fleet>,
    notifications: Notifications,
    vault: Arc<Vault>,
    space: Arc<LogSpace>,
    idempotency: Arc<IdempotencyCache>,
    retention: RetentionPeriods,
    clock: Clock,
    entropy: Entropy,
}

/// The use cases.
struct UseCases {
    authentication: Arc<Authentication>,
    keys: Arc<Keys>,
    tokens: Arc<Tokens>,
    sessions: Arc<Sessions>,
    policies: Arc<Policies>,
    leaks: Arc<Leaks>,
    request_log: Arc<RequestLog>,
    anomalies: Arc<Anomalies>,
    admin_log: Arc<AdminLog>,
    gateways: Arc<Gateways>,
}

// === impl ControlPlane ===

impl ControlPlane {
    /// Opens the data directory, and initializes it on the first start. The image is not built yet.
    ///
    /// # Errors
    ///
    /// Fails if a setting is not usable, or if the data directory cannot be opened.
    pub async fn open(settings: &ServerSettings) -> Result<Self, ServerError> {
        let connection_table = Arc::new(ConnectionTable::new(connections::most_connections()));
        Self::open_with(settings, connection_table, CertificateExpiry::default()).await
    }

    /// Opens the data directory while connections are already accepted.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::open`].
    pub(crate) async fn open_with(
        settings: &ServerSettings,
        connection_table: Arc<ConnectionTable>,
        certificate_expiry: CertificateExpiry,
    ) -> Result<Self, ServerError> {
        let webhook = settings.webhook.as_ref().map(Webhook::new).transpose()?;
        // Checked before anything is created, so that an error leaves nothing behind.
        if let Some(file) = &settings.payload_key_file {
            vault::check_key_file(file).map_err(VaultError::from)?;
        }
        let exporter = settings.otlp.as_ref().map(Exporter::new).transpose()?;
        let shared = Shared::open(settings, exporter.is_some()).await?;
        let failures = DeliveryFailures {
            webhook: webhook.as_ref().map(Webhook::failures),
            otlp: exporter.as_ref().map(Exporter::failures),
        };
        let cases = UseCases::new(&shared, settings);
        let metrics = Metrics::new(shared.store.metrics());
        let api = Arc::new(api(&shared, &cases, failures, &connection_table, certificate_expiry, &metrics));
        let console = Arc::new(console(&shared, cases, settings));
        let Shared { store, publisher, fleet, notifications, retention, clock, entropy, .. } = shared;
        Ok(Self {
            store,
            publisher,
            fleet,
            notifications,
            retention,
            clock,
            entropy,
            connection_table,
            webhook,
            exporter,
            metrics,
            api,
            console,
        })
    }

    /// The dependencies of the webhook and the OTLP export.
    pub fn delivery_source(&self) -> DeliverySource<'_> {
        DeliverySource {
            installation: self.publisher.installation.id,
            store: &*self.store,
            clock: &self.clock,
            entropy: &self.entropy,
        }
    }

    /// The current time.
    pub fn now(&self) -> UnixMillis {
        self.clock.now()
    }
}

// === impl Shared ===

impl Shared {
    async fn open(settings: &ServerSettings, exports: bool) -> Result<Self, ServerError> {
        let reserve = settings.log_limits.reserve_bytes;
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open_with_reserve(&settings.data_dir, reserve).await?);
        if exports {
            let mut transaction = store.begin_log().await?;
            transaction.begin_export().await?;
            transaction.commit().await?;
        }
        let default_file = settings.data_dir.join("admin-token");
        let token_file = settings.admin_token_file.as_ref().unwrap_or(&default_file);
        let (clock, entropy) = (settings.clock.clone(), settings.entropy.clone());
        let installation =
            bootstrap::installation(&*store, &clock, &entropy, &settings.key_prefix, token_file).await?;
        let default_file = settings.data_dir.join("payload-key");
        let key_file = settings.payload_key_file.as_ref().unwrap_or(&default_file);
        let vault = Arc::new(Vault::open(key_file, &*store, entropy.clone()).await?);
        let fleet = Arc::new(Fleet::new(clock.clone(), settings.gateway_lease));
        fleet.recall(&*store).await?;
        let publisher = Arc::new(Publisher::new(Arc::clone(&store), installation, clock.clone()));
        let retention = RetentionPeriods {
            records: settings.audit_retention,
            payloads: settings.payload_retention,
            max_bytes: settings.log_limits.max_bytes,
        };
        let space = Arc::new(LogSpace::new(Arc::clone(&store), settings.log_limits));
        Ok(Self {
            store,
            publisher,
            fleet,
            notifications: Notifications::default(),
            vault,
            space,
            idempotency: Arc::default(),
            retention,
            clock,
            entropy,
        })
    }
}

// === impl UseCases ===

impl UseCases {
    fn new(shared: &Shared, settings: &ServerSettings) -> Self {
        let Shared { store, publisher, fleet, notifications, idempotency, clock, entropy, .. } = shared;
        let authentication =
            Arc::new(Authentication::new(Arc::clone(store), notifications.clone(), clock.clone()));
        let parts = KeyParts {
            store: Arc::clone(store),
            publisher: Arc::clone(publisher),
            fleet: Arc::clone(fleet),
            notifications: notifications.clone(),
            idempotency: Arc::clone(idempotency),
            rotation_after: settings.rotation_after,
            clock: clock.clone(),
            entropy: entropy.clone(),
        };
        let keys = Keys::new(parts.clone());
        let tokens = Tokens::new(
            Arc::clone(store),
            Arc::clone(fleet),
            notifications.clone(),
            Arc::clone(idempotency),
            publisher.installation.key_prefix.clone(),
            clock.clone(),
            entropy.clone(),
        );
        let sessions =
            Sessions::new(Arc::clone(store), Arc::clone(&authentication), clock.clone(), entropy.clone());
        let request_log = RequestLog::new(
            Arc::clone(store),
            Arc::clone(&shared.vault),
            notifications.clone(),
            clock.clone(),
            shared.retention.payloads,
        );
        let gateways =
            Gateways::new(Arc::clone(store), Arc::clone(fleet), Arc::clone(publisher), clock.clone());
        Self {
            authentication,
            keys: Arc::new(keys),
            tokens: Arc::new(tokens),
            sessions: Arc::new(sessions),
            policies: Arc::new(Policies::new(store, publisher, fleet, notifications, clock)),
            leaks: Arc::new(Leaks::new(parts)),
            request_log: Arc::new(request_log),
            anomalies: Arc::new(Anomalies::new(Arc::clone(store))),
            admin_log: Arc::new(AdminLog::new(Arc::clone(store))),
            gateways: Arc::new(gateways),
        }
    }
}

fn api(
    shared: &Shared,
    cases: &UseCases,
    failures: DeliveryFailures,
    connection_table: &Arc<ConnectionTable>,
    certificate_expiry: CertificateExpiry,
    metrics: &Metrics,
) -> Api {
    let Shared { store, publisher, fleet, notifications, vault, clock, .. } = shared;
    let gateway_protocol = GatewayProtocol::new(ProtocolParts {
        store: Arc::clone(store),
        publisher: Arc::clone(publisher),
        fleet: Arc::clone(fleet),
        vault: Arc::clone(vault),
        notifications: notifications.clone(),
        clock: clock.clone(),
        metrics: metrics.gateways.clone(),
        space: Arc::clone(&shared.space),
    });
    let monitoring = Monitoring::new(
        Arc::clone(store),
        Arc::clone(publisher),
        Arc::clone(fleet),
        clock.clone(),
        failures,
        Arc::clone(&shared.space),
    );
    Api {
        authentication: Arc::clone(&cases.authentication),
        connection_table: Arc::clone(connection_table),
        certificate_expiry,
        clock: clock.clone(),
        keys: Arc::clone(&cases.keys),
        tokens: Arc::clone(&cases.tokens),
        policies: Arc::clone(&cases.policies),
        leaks: Arc::clone(&cases.leaks),
        request_log: Arc::clone(&cases.request_log),
        anomalies: Arc::clone(&cases.anomalies),
        admin_log: Arc::clone(&cases.admin_log),
        gateways: Arc::clone(&cases.gateways),
        gateway_protocol: Arc::new(gateway_protocol),
        monitoring: Arc::new(monitoring),
        metrics: Arc::clone(&metrics.registry),
    }
}

fn console(shared: &Shared, cases: UseCases, settings: &ServerSettings) -> Console {
    let UseCases {
        authentication,
        keys,
        tokens,
        sessions,
        policies,
        leaks,
        request_log,
        anomalies,
        admin_log,
        gateways,
    } = cases;
    let watch = EnforcementWatch::new(&shared.fleet, &shared.publisher, &shared.notifications);
    Console {
        authentication,
        clock: shared.clock.clone(),
        entropy: shared.entropy.clone(),
        gateway_url: settings.gateway_url.clone(),
        keys,
        tokens,
        sessions,
        policies,
        leaks,
        request_log,
        anomalies,
        admin_log,
        gateways,
        enforcement_watch: Arc::new(watch),
        console: Arc::new(ConsoleState::new(settings.effective.clone(), settings.tls.is_some())),
    }
}
