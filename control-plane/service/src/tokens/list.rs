//! Lists tokens.

use uuid::Uuid;

use super::Tokens;
use crate::query::PageRequest;
use omniflow_domain::error::Error;
use omniflow_domain::page::Page;
use omniflow_domain::token::Token;

// === impl Tokens ===

impl Tokens {
    /// A page of the tokens, newest first.
    ///
    /// # Errors
    ///
    /// `invalid_query` for a limit or cursor that is none.
    pub async fn list(&self, request: PageRequest) -> Result<Page<Token>, Error> {
        let (limit, before) = request.read(|text| Uuid::parse_str(text).ok())?;
        let tokens = self.store.tokens(before, limit + 1).await?;
        Ok(Page::of(tokens, limit, |token| token.id.to_string()))
    }
}
