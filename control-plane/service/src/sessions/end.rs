//! Ends sessions: one, or all of a token.

use super::use_cases::Sessions;
use omniflow_domain::error::Error;
use omniflow_domain::principal::Principal;
use omniflow_domain::session::Session;

// === impl Sessions ===

impl Sessions {
    /// Ends a session.
    pub async fn end(&self, session: &Session) -> Result<(), Error> {
        let mut transaction = self.store.begin().await?;
        transaction.delete_session(session.digest).await?;
        Ok(transaction.commit().await?)
    }

    /// Ends all sessions of a principal's token.
    pub async fn end_all(&self, principal: &Principal) -> Result<(), Error> {
        let mut transaction = self.store.begin().await?;
        let sessions = transaction.delete_sessions_of(principal.id).await?;
        transaction.commit().await?;
        tracing::info!(token = %principal.id, name = principal.name.as_str(), sessions, "sessions ended");
        Ok(())
    }
}
