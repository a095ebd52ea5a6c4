//! Records that a session is in use, so that it does not end due to inactivity.

use super::use_cases::Sessions;
use omniflow_domain::error::Error;
use omniflow_domain::session::Session;

// === impl Sessions ===

impl Sessions {
    /// Records a request of this session, unless one was recorded within the last minute.
    pub async fn extend(&self, session: &Session) -> Result<(), Error> {
        let now = self.clock.now();
        if !session.is_to_be_noted(now) {
            return Ok(());
        }
        let mut transaction = self.store.begin().await?;
        transaction.see_session(session.digest, now).await?;
        Ok(transaction.commit().await?)
    }
}
