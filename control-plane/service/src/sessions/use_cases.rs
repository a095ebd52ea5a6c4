//! The shared parts of the session use cases, and the number of sessions of a token.

use std::sync::Arc;

use omniflow_policy::digest::Digest;

use crate::authentication::Authentication;
use omniflow_domain::clock::{Clock, Entropy};
use omniflow_domain::error::Error;
use omniflow_domain::principal::Principal;
use omniflow_domain::session::Session;
use omniflow_domain::token::Role;
use omniflow_store::Store;

/// The random bytes of a session's identifier, which the browser keeps in hexadecimal digits.
pub const IDENTIFIER_BYTES: usize = 32;

/// The use cases of sessions.
pub struct Sessions {
    pub(super) store: Arc<dyn Store>,
    pub(super) authentication: Arc<Authentication>,
    pub(super) clock: Clock,
    pub(super) entropy: Entropy,
}

// === impl Sessions ===

impl Sessions {
    /// Keeps sessions in this store; `authentication` checks the tokens that people sign in with.
    pub fn new(
        store: Arc<dyn Store>,
        authentication: Arc<Authentication>,
        clock: Clock,
        entropy: Entropy,
    ) -> Self {
        Self { store, authentication, clock, entropy }
    }

    /// The number of sessions of a principal's token that have not ended.
    pub async fn count(&self, principal: &Principal) -> Result<i64, Error> {
        let over = Session::over_since(self.clock.now());
        Ok(self.store.session_count(principal.id, over).await?)
    }
}

/// The digest under which the database stores an identifier.
pub(super) fn digest(identifier: &str) -> Digest {
    Digest::of(identifier.as_bytes())
}

/// Whether people sign in with tokens of this role.
pub(super) fn may_sign_in(role: Role) -> bool {
    match role {
        Role::Owner | Role::Admin | Role::Auditor => true,
        Role::Gateway => false,
    }
}
