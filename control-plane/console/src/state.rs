//! The state of the console, and the slices of it that handlers extract.

use std::sync::Arc;

use axum::extract::FromRef;
use omniflow_domain::clock::{Clock, Entropy};
use omniflow_policy::time::UnixMillis;
use omniflow_service::admin_log::AdminLog;
use omniflow_service::anomalies::Anomalies;
use omniflow_service::audit::RequestLog;
use omniflow_service::authentication::Authentication;
use omniflow_service::fleet::enforcement_watch::EnforcementWatch;
use omniflow_service::gateways::Gateways;
use omniflow_service::keys::Keys;
use omniflow_service::leaks::Leaks;
use omniflow_service::policy::Policies;
use omniflow_service::sessions::Sessions;
use omniflow_service::tokens::Tokens;
use tokio::sync::Semaphore;

/// The use cases that the console calls, and its own state.
pub struct Console {
    /// Authenticates tokens.
    pub authentication: Arc<Authentication>,
    /// The wall clock.
    pub clock: Clock,
    /// Random bytes.
    pub entropy: Entropy,
    /// URL of the gateways for clients; `None` if it is not configured.
    pub gateway_url: Option<String>,
    /// The use cases of keys.
    pub keys: Arc<Keys>,
    /// The use cases of tokens.
    pub tokens: Arc<Tokens>,
    /// The use cases of sessions.
    pub sessions: Arc<Sessions>,
    /// The use cases of the policy.
    pub policies: Arc<Policies>,
    /// The use cases of leaked secrets.
    pub leaks: Arc<Leaks>,
    /// Reads the request log.
    pub request_log: Arc<RequestLog>,
    /// Reads the anomalies.
    pub anomalies: Arc<Anomalies>,
    /// Reads the admin log.
    pub admin_log: Arc<AdminLog>,
    /// Reads the state of the gateways.
    pub gateways: Arc<Gateways>,
    /// Tracks the enforcement of changes.
    pub enforcement_watch: Arc<EnforcementWatch>,
    /// State of the console itself.
    pub console: Arc<ConsoleState>,
}

/// The state of the router. Handlers take slices of it, such as `State<Arc<Tokens>>`.
#[derive(Clone)]
pub(super) struct AppState(pub(super) Arc<Console>);

impl FromRef<AppState> for Arc<Console> {
    fn from_ref(AppState(console): &AppState) -> Self {
        Self::clone(console)
    }
}

/// Lets handlers extract a field of the state by its type.
macro_rules! slices {
    ($($field:ident: $slice:ty,)*) => {
        $(impl FromRef<AppState> for Arc<$slice> {
            fn from_ref(AppState(console): &AppState) -> Self {
                Self::clone(&console.$field)
            }
        })*
    };
}

slices! {
    admin_log: AdminLog,
    anomalies: Anomalies,
    enforcement_watch: EnforcementWatch,
    gateways: Gateways,
    keys: Keys,
    leaks: Leaks,
    policies: Policies,
    request_log: RequestLog,
    sessions: Sessions,
    tokens: Tokens,
}

// === impl Console ===

impl Console {
    /// The current time.
    pub(super) fn now(&self) -> UnixMillis {
        self.clock.now()
    }
}

/// Number of large forms that are read concurrently without a session. A form submitted after the end of its session is
/// kept, but clients without a session cannot exhaust the memory.
const MAX_LARGE_FORMS: usize = 8;

/// The state of the console.
#[derive(Debug)]
pub struct ConsoleState {
    /// The effective settings of this process, for the settings page.
    pub(super) settings: Vec<EffectiveSetting>,
    /// Whether connections are accepted over TLS only.
    pub(super) serves_tls: bool,
    /// One permit per large form that is read without a session.
    pub(super) large_forms: Semaphore,
}

/// An effective setting, formatted for display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// Its name.
    pub name: &'static str,
    /// Its purpose.
    pub meaning: &'static str,
    /// Its value; `None` if it has none.
    pub value: Option<String>,
    /// The origin of the value: a flag, a variable, a line of the file, or the default.
    pub source: String,
}

// === impl ConsoleState ===

impl ConsoleState {
    /// The state of a console with these settings.
    pub fn new(settings: Vec<EffectiveSetting>, serves_tls: bool) -> Self {
        Self { settings, serves_tls, large_forms: Semaphore::new(MAX_LARGE_FORMS) }
    }
}
