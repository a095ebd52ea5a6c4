//! What every handler works with.

use std::sync::Arc;
use std::time::Duration;

use omniflow_domain::clock::{Clock, Entropy};
use omniflow_net::admission::Admission;
use omniflow_policy::time::UnixMillis;
use tokio::sync::Mutex;

use super::authentication::Authentication;
use super::fleet::Fleet;
use super::publisher::Publisher;
use super::sessions::Sessions;
use super::signals::Signals;
use super::tokens::Tokens;
use super::vault::Vault;
use crate::http::{Answers, ConsoleState, Followed, KeyCounts};
use crate::otlp::Exporter;
use crate::storage::Storage;
use crate::webhook::Webhook;

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
    /// For how long audit records are kept.
    pub(crate) audit_retention: Duration,
    /// For how long the arguments of calls are kept.
    pub(crate) payload_retention: Duration,
    /// Seals the arguments of calls.
    pub(crate) vault: Arc<Vault>,
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
    /// The last count of keys.
    pub(crate) key_counts: KeyCounts,
    /// Held by the one replay that runs.
    pub(crate) replaying: Mutex<()>,
    /// What was answered to creates in the last minutes.
    pub(crate) answers: Arc<Answers>,
}

impl App {
    /// Until when the arguments of a call are kept that began then.
    pub(crate) fn payload_end(&self, began: UnixMillis) -> UnixMillis {
        let kept = u64::try_from(self.payload_retention.as_millis()).unwrap_or(u64::MAX);
        UnixMillis(began.0.saturating_add(kept))
    }

    /// The present instant.
    pub(crate) fn now(&self) -> UnixMillis {
        self.clock.now()
    }
}
