//! Looks up one token.

use uuid::Uuid;

use super::Tokens;
use omniflow_domain::error::{Error, Missing};
use omniflow_domain::token::Token;

// === impl Tokens ===

impl Tokens {
    /// The token with this identifier.
    ///
    /// # Errors
    ///
    /// `not_found` if there is none.
    pub async fn find(&self, id: &str) -> Result<Token, Error> {
        let no_such_token = || Error::missing(Missing::Token);
        let id = Uuid::parse_str(id).map_err(|_| no_such_token())?;
        self.store.token(id).await?.ok_or_else(no_such_token)
    }
}
