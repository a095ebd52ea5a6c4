//! Tokens of the control plane: created, listed and revoked by owners.

mod create;
mod find;
mod list;
mod revoke;

use std::sync::Arc;

use omniflow_policy::key::KeyPrefix;

pub(crate) use self::create::{CreateToken, CreatedToken};
use super::idempotency::IdempotencyCache;
use super::known_tokens::KnownTokens;
use super::signals::Signals;
use crate::storage::Storage;
use omniflow_domain::clock::{Clock, Entropy};
use omniflow_domain::event::Subject;
use omniflow_domain::token::Token;

/// The use cases of tokens.
pub(crate) struct Tokens {
    storage: Arc<Storage>,
    known_tokens: Arc<KnownTokens>,
    signals: Signals,
    idempotency: Arc<IdempotencyCache>,
    key_prefix: KeyPrefix,
    clock: Clock,
    entropy: Entropy,
}

// === impl Tokens ===

impl Tokens {
    pub(crate) fn new(
        storage: Arc<Storage>,
        known_tokens: Arc<KnownTokens>,
        signals: Signals,
        idempotency: Arc<IdempotencyCache>,
        key_prefix: KeyPrefix,
        clock: Clock,
        entropy: Entropy,
    ) -> Self {
        Self { storage, known_tokens, signals, idempotency, key_prefix, clock, entropy }
    }
}

/// The token as the admin log names it.
fn subject(token: &Token) -> Subject {
    Subject { id: token.id.to_string(), name: token.name.to_string() }
}
