//! Tokens of the control plane.

use async_trait::async_trait;
use omniflow_domain::token::Token;
use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use crate::error::Result;

/// Reads tokens. Expired tokens are included; revoked tokens no longer exist.
#[async_trait]
pub trait TokenStore {
    /// The token with this digest. Anyone can send any number of unknown tokens, so a backend should reject most
    /// unknown digests without a query. A token must be found as soon as any process has committed its insertion.
    async fn token_by_digest(&self, digest: Digest) -> Result<Option<Token>>;

    /// The token with this identifier.
    async fn token(&self, id: Uuid) -> Result<Option<Token>>;

    /// Returns up to `limit` tokens, newest first, after the token `before`.
    async fn tokens(&self, before: Option<Uuid>, limit: usize) -> Result<Vec<Token>>;
}

/// Writes tokens.
#[async_trait]
pub trait TokenWrites {
    /// The token, as seen by this transaction.
    async fn token(&mut self, id: Uuid) -> Result<Option<Token>>;

    /// Inserts a token. Returns false, and inserts nothing, if its name is taken.
    async fn insert_token(&mut self, token: &Token) -> Result<bool>;

    /// Deletes a token and its sessions.
    async fn delete_token(&mut self, id: Uuid) -> Result<()>;

    /// Counts owner tokens that do not expire before `end`.
    async fn owner_tokens_until(&mut self, end: UnixMillis) -> Result<i64>;
}
