//! Revokes a token.

use std::sync::Arc;

use uuid::Uuid;

use super::{Tokens, subject};
use crate::run_to_completion;
use omniflow_domain::admin_event::{Action, NewAdminEvent};
use omniflow_domain::admin_event_state::token_state;
use omniflow_domain::error::{Error, ErrorCode, Missing};
use omniflow_domain::principal::Principal;
use omniflow_domain::time::DAY_MS;
use omniflow_domain::token::{Role, Token};
use omniflow_policy::time::UnixMillis;

/// How long a remaining owner token must be valid for another one to be revoked: 30 days.
const OWNER_REMAINS_MS: u64 = 30 * DAY_MS;

// === impl Tokens ===

impl Tokens {
    /// Revokes the token with this identifier immediately. A principal may revoke its own.
    ///
    /// # Errors
    ///
    /// `not_found` if there is none; `last_owner_token` if no other owner token would remain valid long enough.
    pub async fn revoke(self: &Arc<Self>, principal: &Principal, id: &str) -> Result<(), Error> {
        let id = Uuid::parse_str(id).map_err(|_| no_such_token())?;
        let (tokens, principal) = (Arc::clone(self), principal.clone());
        run_to_completion(async move { tokens.revoke_known(&principal, id).await }).await
    }

    async fn revoke_known(&self, principal: &Principal, id: Uuid) -> Result<(), Error> {
        let mut transaction = self.store.begin().await?;
        let now = self.clock.now();
        let token = transaction.token(id).await?.ok_or_else(no_such_token)?;
        let event = NewAdminEvent {
            time: now,
            principal: principal.reference(),
            action: Action::TokenRevoked,
            subject: subject(&token),
            before: Some(token_state(&token)),
            after: None,
        };
        // This comes before the revocation, because the token may be the principal's own.
        transaction.insert_admin_event(&event).await?;
        transaction.delete_token(id).await?;
        // Counted after the revocation and rolled back with it, so that an installation never locks everyone out.
        if let Some(end) = must_be_outlived(&token, now)
            && transaction.owner_tokens_until(end).await? == 0
        {
            let detail = "No other owner token is valid for at least 30 days or for as long as this one. Create one before you revoke this token.";
            return Err(Error::new(ErrorCode::LastOwnerToken, detail));
        }
        transaction.commit().await?;
        self.fleet.token_revoked(&token);
        self.notifications.token_revoked.send_replace(());
        tracing::info!(token = %id, by = principal.name.as_str(), "token revoked");
        Ok(())
    }
}

/// Until when another owner token must be valid for this one to be revoked: as long as this one, but at most for
/// [`OWNER_REMAINS_MS`]. `None` if revoking this token does not lock anyone out.
fn must_be_outlived(token: &Token, now: UnixMillis) -> Option<UnixMillis> {
    if token.role != Role::Owner || !token.is_valid(now) {
        return None;
    }
    let bound = UnixMillis(now.0.saturating_add(OWNER_REMAINS_MS));
    Some(token.expires_at.map_or(bound, |end| end.min(bound)))
}

fn no_such_token() -> Error {
    Error::missing(Missing::Token)
}
