//! Browser sessions. A session ends with its token.

use async_trait::async_trait;
use omniflow_domain::session::Session;
use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use crate::error::Result;

/// Reads sessions.
#[async_trait]
pub trait SessionStore {
    /// The session with this digest, expired or not.
    async fn session(&self, wanted: Digest) -> Result<Option<Session>>;

    /// Counts the sessions of a token that are not over. `over` contains the latest creation and the latest use of
    /// sessions that are over.
    async fn session_count(&self, token: Uuid, over: (UnixMillis, UnixMillis)) -> Result<i64>;
}

/// Writes sessions.
#[async_trait]
pub trait SessionWrites {
    /// Inserts a session, and keeps only the `most` most recently used sessions of its token. Returns false if the
    /// token does not exist.
    async fn insert_session(&mut self, session: &Session, most: usize) -> Result<bool>;

    /// Sets when the session was last used.
    async fn see_session(&mut self, digest: Digest, now: UnixMillis) -> Result<()>;

    /// Deletes a session.
    async fn delete_session(&mut self, digest: Digest) -> Result<()>;

    /// Deletes all sessions of a token and returns their number.
    async fn delete_sessions_of(&mut self, token: Uuid) -> Result<u64>;

    /// Deletes sessions that were created, or last used, at or before these instants.
    async fn purge_sessions(&mut self, over: (UnixMillis, UnixMillis)) -> Result<()>;
}
