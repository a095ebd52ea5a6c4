//! Looks up the session of a browser.

use super::use_cases::{IDENTIFIER_BYTES, Sessions, digest, may_sign_in};
use omniflow_domain::error::Error;
use omniflow_domain::principal::Principal;
use omniflow_domain::session::Session;

/// A valid session, with its principal.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// The session.
    pub session: Session,
    /// The bearer of its token.
    pub principal: Principal,
}

// === impl Sessions ===

impl Sessions {
    /// The session with this identifier, if it and its token are valid and people sign in with such tokens.
    pub async fn find(&self, identifier: &str) -> Result<Option<SignedIn>, Error> {
        if identifier.len() != 2 * IDENTIFIER_BYTES {
            return Ok(None);
        }
        let now = self.clock.now();
        let session = self.store.session(digest(identifier)).await?;
        let Some(session) = session.filter(|session| session.is_valid(now)) else { return Ok(None) };
        let token = self.store.token(session.token_id).await?;
        let token = token.filter(|token| token.is_valid(now) && may_sign_in(token.role));
        Ok(token.map(|token| SignedIn { session, principal: token.into() }))
    }
}
