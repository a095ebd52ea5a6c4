//! What every handler works with.

use std::sync::Arc;
use std::time::Duration;

use omniflow_domain::clock::{Clock, Entropy};
use omniflow_net::admission::Admission;
use omniflow_policy::time::UnixMillis;
use tokio::sync::Semaphore;

use super::fleet::Fleet;
use super::idempotency::IdempotencyCache;
use super::keys::Keys;
use super::known_tokens::KnownTokens;
use super::leaks::Leaks;
use super::policy::Policies;
use super::publisher::Publisher;
use super::signals::Signals;
use super::vault::Vault;
use crate::configuration::SettingInForce;
use crate::http::{EnforcementWatch, KeyCounts, Throttle};
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
    /// How far revocations made in the console are enforced.
    pub(crate) enforcement_watch: Arc<EnforcementWatch>,
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
