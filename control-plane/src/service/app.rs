//! What every handler works with.

use std::sync::Arc;
use std::time::Duration;

use omniflow_domain::clock::{Clock, Entropy};
use omniflow_net::admission::Admission;
use omniflow_policy::time::UnixMillis;
use tokio::sync::Mutex;

use super::admin_log::AdminLog;
use super::audit::RequestLog;
use super::authentication::Authentication;
use super::fleet::Fleet;
use super::gateway_protocol::GatewayProtocol;
use super::gateways::Gateways;
use super::jobs::retention::RetentionPeriods;
use super::monitoring::Monitoring;
use super::publisher::Publisher;
use super::sessions::Sessions;
use super::signals::Signals;
use super::tokens::Tokens;
use crate::http::{Answers, ConsoleState, Followed};
use crate::outbound::otlp::Exporter;
use crate::outbound::webhook::Webhook;
use crate::storage::Storage;

/// The running control plane.
pub(crate) struct App {
    /// The rows.
    pub(crate) storage: Arc<Storage>,
    /// Commits changes and publishes them.
    pub(crate) publisher: Arc<Publisher>,
    /// What parts of the process tell each other.
    pub(crate) signals: Signals,
    /// The gateways that call.
    pub(crate) fleet: Arc<Fleet>,
    /// How long after it was made a key's newest version should be replaced; `None` for never.
    pub(crate) rotation_after: Option<Duration>,
    /// How long audit records and the arguments of calls are kept.
    pub(crate) retention: RetentionPeriods,
    /// Where callers reach the gateways; `None` if nobody has said.
    pub(crate) gateway_url: Option<String>,
    /// How far revocations are in force that were made on a page.
    pub(crate) followed: Followed,
    /// Authenticates tokens.
    pub(crate) authentication: Arc<Authentication>,
    /// The use cases of tokens.
    pub(crate) tokens: Arc<Tokens>,
    /// The use cases of sessions.
    pub(crate) sessions: Arc<Sessions>,
    /// The state of the console.
    pub(crate) console: Arc<ConsoleState>,
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
    /// Held by the one replay that runs.
    pub(crate) replaying: Mutex<()>,
    /// What was answered to creates in the last minutes.
    pub(crate) answers: Arc<Answers>,
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
}

impl App {
    /// The present instant.
    pub(crate) fn now(&self) -> UnixMillis {
        self.clock.now()
    }
}
