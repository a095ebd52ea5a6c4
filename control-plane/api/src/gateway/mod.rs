//! `/gateway/v1`: what filters call. Nobody else may.

mod audit;
mod images;
mod poll;

use omniflow_policy::gateway::{AUDIT_PATH, ENFORCED_PATH, MAX_BATCH_BYTES, POLL_PATH};

use super::access::{Endpoints, GATEWAY};

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints
        .post(POLL_PATH, GATEWAY, poll::poll)
        .get("/gateway/v1/images/{version}/chunks/{n}", GATEWAY, images::chunk)
        .post(ENFORCED_PATH, GATEWAY, poll::enforced)
        .post_large(AUDIT_PATH, GATEWAY, MAX_BATCH_BYTES, audit::ingest)
}
