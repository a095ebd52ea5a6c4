//! What every handler works with.

use std::sync::Arc;

use omniflow_domain::clock::{Clock, Entropy};
use omniflow_net::admission::Admission;
use omniflow_policy::time::UnixMillis;

use super::admin_log::AdminLog;
use super::audit::RequestLog;
use super::authentication::Authentication;
use super::fleet::Fleet;
use super::gateway_protocol::GatewayProtocol;
use super::gateways::Gateways;
use super::idempotency::IdempotencyCache;
use super::jobs::retention::RetentionPeriods;
use super::keys::Keys;
use super::leaks::Leaks;
use super::monitoring::Monitoring;
use super::policy::Policies;
use super::publisher::Publisher;
use super::sessions::Sessions;
use super::signals::Signals;
use super::tokens::Tokens;
use crate::http::{ConsoleState, EnforcementWatch};
use crate::outbound::otlp::Exporter;
use crate::outbound::webhook::Webhook;
use omniflow_store::Store;

/// The running control plane.
pub(crate) struct App {
    /// The rows.
    pub(crate) store: Arc<dyn Store>,
    /// Commits changes and publishes them.
    pub(crate) publisher: Arc<Publisher>,
    /// What parts of the process tell each other.
    pub(crate) signals: Signals,
    /// The gateways that call.
    pub(crate) fleet: Arc<Fleet>,
    /// How long audit records and the arguments of calls are kept.
    pub(crate) retention: RetentionPeriods,
    /// Where callers reach the gateways; `None` if nobody has said.
    pub(crate) gateway_url: Option<String>,
    /// Authenticates tokens.
    pub(crate) authentication: Arc<Authentication>,
    /// The use cases of tokens.
    pub(crate) tokens: Arc<Tokens>,
    /// The use cases of sessions.
    pub(crate) sessions: Arc<Sessions>,
    /// The state of the console.
    pub(crate) console: Arc<ConsoleState>,
    /// How far revocations made in the console are enforced.
    pub(crate) enforcement_watch: Arc<EnforcementWatch>,
    /// The connections that are open.
    pub(crate) admission: Arc<Admission>,
    /// The wall clock.
    pub(crate) clock: Clock,
    /// Random bytes.
    pub(crate) entropy: Entropy,
    /// Who gets findings; `None` for nobody.
    pub(crate) webhook: Option<Webhook>,
    /// Who gets the audit log; `None` for nobody.
    pub(crate) exporter: Option<Exporter>,
    /// Reads the request log.
    pub(crate) request_log: Arc<RequestLog>,
    /// Reads the admin log.
    pub(crate) admin_log: Arc<AdminLog>,
    /// Reads the state of the gateways.
    pub(crate) gateways: Arc<Gateways>,
    /// Serves gateways.
    pub(crate) gateway_protocol: Arc<GatewayProtocol>,
    /// Measures the control plane.
    pub(crate) monitoring: Arc<Monitoring>,
    /// The results of requests that created something in the last minutes.
    pub(crate) idempotency: Arc<IdempotencyCache>,
    /// The use cases of keys.
    pub(crate) keys: Arc<Keys>,
    /// The use cases of the policy.
    pub(crate) policies: Arc<Policies>,
    /// The use cases of leaked secrets.
    pub(crate) leaks: Arc<Leaks>,
}

impl App {
    /// The present instant.
    pub(crate) fn now(&self) -> UnixMillis {
        self.clock.now()
    }
}
