//! The audit log: calls, calls in progress, gaps, statistics, exports, and a stream of new calls.

pub(super) mod export;
pub(super) mod gaps;
pub(super) mod in_progress;
pub(super) mod list;
pub(super) mod payload;
pub(super) mod show;
pub(super) mod stats;
pub(super) mod stream;

use utoipa_axum::routes;

use super::access::{AUDIT, OWNER, READ};
use super::endpoint::Endpoints;

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints
        .add_query(READ, routes!(list::list))
        .add_query(READ, routes!(gaps::gaps))
        .add_query(READ, routes!(in_progress::in_progress))
        .add_query(READ, routes!(stats::stats))
        .add(READ, routes!(export::export))
        .add(READ, routes!(stream::stream))
        .add(READ, routes!(show::show))
        .add(AUDIT, routes!(payload::show))
        .add(OWNER, routes!(payload::rotate_key))
}
