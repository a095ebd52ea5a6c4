//! The storage of the control plane, as traits. A backend is a crate that implements [`Store`], [`Transaction`] and
//! [`LogTransaction`] and passes the test suite in `contract`.
//!
//! There are two kinds of data. Keys, tokens, policy, sessions and the admin log change rarely, and every change is one
//! [`Transaction`] that is visible as a whole or not at all. The request log grows with every batch from a gateway; it
//! and everything derived from it is written by a [`LogTransaction`]. The two never share a transaction, so a backend
//! may keep them in different databases.
//!
//! Nothing here assumes that one process uses a store. A backend that several processes share serializes transactions
//! itself.
//!
//! | module | aggregate |
//! |---|---|
//! | [`keys`] | API keys and their versions |
//! | [`tokens`], [`sessions`] | tokens of the control plane; browser sessions |
//! | [`policy`] | versions of the policy document |
//! | [`admin_log`] | every change that an admin made |
//! | [`installation`], [`idempotency`] | the identity of the installation; idempotency records of creates |
//! | [`gateways`] | gateways, and how much of their log has arrived |
//! | [`request_log`], [`ingest`] | calls through gateways; how a batch is stored |
//! | [`anomalies`], [`rollup`] | anomalies; the rollups in which they are detected |
//! | [`payloads`], [`export`], [`retention`] | encrypted arguments of calls; the log exporter's cursor; purging |
//! | [`transaction`] | the two kinds of transactions |
//! | [`encoding`], [`search`], [`statistics`], [`purge`] | what backends on SQL databases have in common, without SQL |
//! | [`error`] | why an operation failed |
//! | [`metrics`] | how long operations take |
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod admin_log;
pub mod anomalies;
#[cfg(feature = "contract")]
#[cfg_attr(
    not(test),
    expect(
        clippy::unwrap_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "a test suite reports failures by panicking"
    )
)]
pub mod contract;
pub mod encoding;
pub mod error;
pub mod export;
pub mod gateways;
pub mod idempotency;
pub mod ingest;
pub mod installation;
pub mod keys;
pub mod metrics;
pub mod payloads;
pub mod policy;
pub mod purge;
pub mod request_log;
pub mod retention;
pub mod rollup;
pub mod search;
pub mod sessions;
pub mod statistics;
pub mod tokens;
pub mod transaction;

use async_trait::async_trait;

pub use admin_log::{AdminLogStore, AdminLogWrites};
pub use anomalies::{AnomalyStore, AnomalyWrites, ChangedHour, Delivery, EvaluationCursor};
pub use error::{CredentialsError, Result, StoreError};
pub use export::{ExportBacklog, ExportPlace, ExportStore, ExportWrites, GapNotice};
pub use gateways::{GatewayLogWrites, GatewayStore, GatewayWrites, OpenGateway};
pub use idempotency::{IdempotencyWrites, IdempotentRequest, RecordedRequest};
pub use ingest::IngestError;
pub use installation::{Installation, InstallationStore, InstallationWrites};
pub use keys::{KeyFilter, KeyStore, KeyWrites, RotationFilter};
pub use metrics::StoreMetrics;
pub use payloads::PayloadStore;
pub use policy::{PolicyStore, PolicyWrites};
pub use request_log::{
    AuditStats, AuditedUser, Ingested, MAX_CALLS_IN_PROGRESS, RequestLogStore, RequestLogWrites, SearchPage,
    Timeline,
};
pub use retention::{LogSize, RetentionStore};
pub use sessions::{SessionStore, SessionWrites};
pub use tokens::{TokenStore, TokenWrites};
pub use transaction::{LogTransaction, Transaction};

/// All data that the control plane stores. Reads see the state committed before they began; writes go through a
/// transaction.
#[async_trait]
pub trait Store:
    AdminLogStore
    + AnomalyStore
    + ExportStore
    + GatewayStore
    + InstallationStore
    + KeyStore
    + PayloadStore
    + PolicyStore
    + RequestLogStore
    + RetentionStore
    + SessionStore
    + TokenStore
    + Send
    + Sync
{
    /// Begins a transaction on keys, tokens, policy, sessions and the admin log. Waits until no other one is open. A
    /// transaction that is dropped without a commit is rolled back.
    async fn begin(&self) -> Result<Box<dyn Transaction>>;

    /// Begins a transaction on the request log, under the same rules. It does not wait for a [`Transaction`].
    async fn begin_log(&self) -> Result<Box<dyn LogTransaction>>;

    /// Fails unless every part of the store responds.
    async fn ping(&self) -> Result<()>;

    /// The durations of the operations on this store.
    fn metrics(&self) -> &StoreMetrics;

    /// Closes all connections, after the upkeep that is due at a clean shutdown.
    async fn close(&self);

    /// Runs the backend's background upkeep, such as checkpoints or merging index segments. Never returns; dropping the
    /// future stops it, at any point and without harm. A backend without upkeep keeps the default.
    async fn maintain(&self) {
        std::future::pending().await
    }
}
