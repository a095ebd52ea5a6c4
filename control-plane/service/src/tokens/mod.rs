//! Tokens of the control plane: created, listed and revoked by owners.

mod create;
mod find;
mod list;
mod revoke;
mod text;

use std::sync::Arc;

use omniflow_policy::key::KeyPrefix;
use tokio::sync::Mutex;

pub use self::create::CreatedToken;
pub use self::text::{CreateToken, TokenText};
use super::fleet::Fleet;
use super::idempotency::IdempotencyCache;
use super::notifications::Notifications;
use omniflow_domain::admin_event::Subject;
use omniflow_domain::clock::{Clock, Entropy};
use omniflow_domain::gateway::RequestCounts;
use omniflow_domain::token::{Role, Token};
use omniflow_store::Store;

/// The use cases of tokens.
pub struct Tokens {
    store: Arc<dyn Store>,
    fleet: Arc<Fleet>,
    notifications: Notifications,
    idempotency: Arc<IdempotencyCache>,
    key_prefix: KeyPrefix,
    clock: Clock,
    entropy: Entropy,
    /// Held from before a token is created until its response is cached for retries.
    turn: Mutex<()>,
}

// === impl Tokens ===

impl Tokens {
    /// Keeps tokens in this store. New secrets start with `key_prefix`.
    pub fn new(
        store: Arc<dyn Store>,
        fleet: Arc<Fleet>,
        notifications: Notifications,
        idempotency: Arc<IdempotencyCache>,
        key_prefix: KeyPrefix,
        clock: Clock,
        entropy: Entropy,
    ) -> Self {
        Self { store, fleet, notifications, idempotency, key_prefix, clock, entropy, turn: Mutex::new(()) }
    }

    /// The requests of gateways with a token since the process started; `None` for a token with another role.
    pub fn gateway_requests(&self, token: &Token) -> Option<RequestCounts> {
        (token.role == Role::Gateway).then(|| self.fleet.requests_of(token.id))
    }
}

/// The token as the admin log names it.
fn subject(token: &Token) -> Subject {
    Subject { id: token.id.to_string(), name: token.name.to_string() }
}
