//! What every handler works with.

use std::sync::Arc;
use std::time::Duration;

use omniflow_domain::clock::{Clock, Entropy};
use omniflow_net::admission::Admission;
use omniflow_policy::time::UnixMillis;
use tokio::sync::{Mutex, Semaphore};

use super::fleet::Fleet;
use super::known_tokens::KnownTokens;
use super::publisher::Publisher;
use super::signals::Signals;
use super::vault::Vault;
use crate::configuration::SettingInForce;
use crate::http::{Answers, Followed, KeyCounts, Throttle};
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
    /// For how long audit records are kept.
    pub(crate) audit_retention: Duration,
    /// For how long the arguments of calls are kept.
    pub(crate) payload_retention: Duration,
    /// Seals the arguments of calls.
    pub(crate) vault: Arc<Vault>,
    /// Where callers reach the gateways; `None` if nobody has said.
    pub(crate) gateway_url: Option<String>,
    /// The settings in force, where each comes from, for people to read.
    pub(crate) settings: Vec<SettingInForce>,
    /// How far revocations are in force that were made on a page.
    pub(crate) followed: Followed,
    /// What may be a token.
    pub(crate) known_tokens: Arc<KnownTokens>,
    /// The connections that are open.
    pub(crate) admission: Arc<Admission>,
    /// The authentications that failed.
    pub(crate) throttle: Throttle,
    /// A permit for each large form of people who are not signed in that is read at once.
    pub(crate) large_forms: Semaphore,
    /// Whether connections are accepted by TLS only.
    pub(crate) serves_tls: bool,
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
