//! The two kinds of transactions. Both are owned, so that they can be passed on and committed elsewhere; a transaction that
//! is dropped without a commit is rolled back.

use async_trait::async_trait;

use crate::admin_log::AdminLogWrites;
use crate::anomalies::AnomalyWrites;
use crate::error::Result;
use crate::export::ExportWrites;
use crate::gateways::{GatewayLogWrites, GatewayWrites};
use crate::idempotency::IdempotencyWrites;
use crate::installation::InstallationWrites;
use crate::keys::KeyWrites;
use crate::policy::PolicyWrites;
use crate::request_log::RequestLogWrites;
use crate::sessions::SessionWrites;
use crate::tokens::TokenWrites;

/// A change to keys, tokens, policy, sessions and the admin log. Only one is open at a time.
#[async_trait]
pub trait Transaction:
    AdminLogWrites
    + GatewayWrites
    + IdempotencyWrites
    + InstallationWrites
    + KeyWrites
    + PolicyWrites
    + SessionWrites
    + TokenWrites
    + Send
{
    /// Commits. The change survives a crash once this returns.
    async fn commit(self: Box<Self>) -> Result<()>;
}

/// A change to the request log and everything derived from it. Only one is open at a time.
#[async_trait]
pub trait LogTransaction: AnomalyWrites + ExportWrites + GatewayLogWrites + RequestLogWrites + Send {
    /// Commits. The change survives a crash once this returns.
    async fn commit(self: Box<Self>) -> Result<()>;
}
