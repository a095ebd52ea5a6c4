//! Authentication of tokens, and throttling of failures.
//!
//! A valid token is looked up first and accepted regardless of failures from its address; only failures are throttled.

mod rejection;
mod rejection_log;
mod throttle;
mod token_guard;

use std::net::IpAddr;
use std::sync::Arc;

use omniflow_policy::digest::Digest;

pub use self::rejection::Rejection;
pub use self::rejection_log::RejectionLog;
pub use self::throttle::FailureTotals;
use self::throttle::Throttle;
pub use self::token_guard::TokenGuard;
pub(crate) use self::token_guard::check_token;
use super::notifications::Notifications;
use omniflow_domain::clock::Clock;
use omniflow_domain::error::Error;
use omniflow_domain::principal::Principal;
use omniflow_domain::token::Token;
use omniflow_store::Store;

/// Authenticates tokens.
pub struct Authentication {
    store: Arc<dyn Store>,
    notifications: Notifications,
    clock: Clock,
    throttle: Throttle,
}

// === impl Authentication ===

impl Authentication {
    /// Authenticates the tokens of this store, with no failed attempts counted yet.
    pub fn new(store: Arc<dyn Store>, notifications: Notifications, clock: Clock) -> Self {
        Self { store, notifications, clock, throttle: Throttle::default() }
    }

    /// The valid token with this digest, or why there is none. Pass a rejected token to [`Self::reject`].
    pub async fn authenticate(&self, digest: Digest) -> Result<Result<Token, Rejection>, Error> {
        Ok(match self.store.token_by_digest(digest).await? {
            None => Err(Rejection::UnknownToken),
            Some(token) if !token.is_valid(self.clock.now()) => Err(Rejection::ExpiredToken),
            Some(token) => Ok(token),
        })
    }

    /// Counts an invalid token against the address that it came from, and returns the error for the principal:
    /// `unauthenticated`, or `too_many_attempts` beyond the rate of the address.
    ///
    /// The failure is logged unless `is_logged`.
    pub fn reject(&self, rejection: Rejection, peer: Option<IpAddr>, is_logged: bool) -> Error {
        self.throttle.reject(rejection, peer, is_logged)
    }

    /// The number of failed authentications since the process started.
    pub fn failures(&self) -> FailureTotals {
        self.throttle.totals()
    }

    /// Watches the token of a principal while a long response is prepared or sent.
    pub fn guard(&self, principal: &Principal) -> TokenGuard {
        TokenGuard::new(Arc::clone(&self.store), self.clock.clone(), &self.notifications, principal.id)
    }
}
