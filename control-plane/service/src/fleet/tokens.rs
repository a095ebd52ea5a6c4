//! The tokens that runs of gateways use. A run whose token is rejected may still be serving requests, so its attempts
//! count as sightings although they have no effect.

use std::collections::HashSet;
use std::sync::{MutexGuard, PoisonError};

use omniflow_domain::gateway::{GatewayState, GatewayToken};
use omniflow_domain::token::Token;
use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;

use super::{Fleet, Gateway};

/// The token that a run uses, with its expiry.
#[derive(Clone, Debug)]
pub(super) struct UsedToken {
    pub(super) token: GatewayToken,
    pub(super) expires_at: Option<UnixMillis>,
    pub(super) is_revoked: bool,
    /// Whether the token lists the name of this gateway.
    pub(super) lists_gateway: bool,
}

// === impl Fleet ===

impl Fleet {
    /// Records that a gateway token was revoked.
    pub(crate) fn token_revoked(&self, token: &Token) {
        // This comes first: a poll that was authenticated before the revocation must not be admitted after it.
        self.revoked().insert(token.digest);
        for gateway in self.lock().values_mut() {
            if let Some(used) = gateway.token.as_mut().filter(|used| used.token.id == token.id) {
                used.is_revoked = true;
            }
        }
        self.heard.send_replace(());
    }

    /// Records that a request with an invalid token was rejected. It is unknown which run sent it, so it counts for all
    /// runs with this token that may still be serving requests.
    pub fn token_rejected(&self, digest: Digest, is_expired: bool) {
        // Anyone can send unknown tokens; only tokens that a run has used cost more than this lookup.
        if !is_expired && !self.revoked().contains(&digest) {
            return;
        }
        let now = self.clock.now();
        let uses = |gateway: &Gateway| gateway.token.as_ref().is_some_and(|used| used.token.digest == digest);
        let mut gateways = self.lock();
        let ids: Vec<_> = gateways
            .iter()
            .filter(|(id, gateway)| uses(gateway) && !self.is_replaced(&gateways, id, gateway, now))
            .filter(|(_, gateway)| !gateway.has_ended())
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            if let Some(gateway) = gateways.get_mut(&id) {
                gateway.arrived(now);
            }
        }
    }

    pub(super) fn revoked(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.revoked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Gateway ===

impl Gateway {
    /// The state of a run whose token is not accepted; `None` if the token is accepted or unknown.
    pub(super) fn rejected_state(&self, now: UnixMillis) -> Option<GatewayState> {
        let used = self.token.as_ref()?;
        if used.is_revoked {
            Some(GatewayState::TokenRevoked)
        } else if used.expires_at.is_some_and(|expires_at| expires_at <= now) {
            Some(GatewayState::TokenExpired)
        } else {
            None
        }
    }

    /// When its token expires, if the token is known and not revoked.
    pub(super) fn token_expires_at(&self) -> Option<UnixMillis> {
        self.token.as_ref().filter(|used| !used.is_revoked)?.expires_at
    }

    /// Whether this run, a newer one of the same name, may replace another: it uses the same token, or one that lists the
    /// name, or the token of the other one is no longer accepted. Otherwise, any gateway token could hide a gateway.
    pub(super) fn may_stand_for(&self, other: &Self, now: UnixMillis) -> bool {
        match (&self.token, &other.token) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(used)) => {
                own.token.id == used.token.id || own.lists_gateway || other.rejected_state(now).is_some()
            }
        }
    }
}

// === impl UsedToken ===

impl UsedToken {
    /// The token as a gateway with this name uses it.
    pub(super) fn new(token: &Token, gateway: &str) -> Self {
        Self {
            token: GatewayToken { id: token.id, digest: token.digest },
            expires_at: token.expires_at,
            is_revoked: false,
            lists_gateway: token.lists(gateway),
        }
    }

    /// A token that was revoked before the control plane started.
    pub(super) fn revoked(token: GatewayToken) -> Self {
        Self { token, expires_at: None, is_revoked: true, lists_gateway: false }
    }
}
