//! Lists tokens.

use uuid::Uuid;

use super::Tokens;
use omniflow_domain::error::Error;
use omniflow_domain::page::{Page, PageRequest};
use omniflow_domain::token::Token;

// === impl Tokens ===

impl Tokens {
    /// A page of the tokens, newest first.
    pub async fn list(&self, page: PageRequest<Uuid>) -> Result<Page<Token>, Error> {
        let tokens = self.store.tokens(page.after, page.limit + 1).await?;
        Ok(Page::of(tokens, page.limit, |token| token.id.to_string()))
    }
}
