//! `/gateway/v1`: what filters call. Nobody else may.

mod audit;
mod images;
mod poll;

use omniflow_policy::gateway::{
    AUDIT_PATH, ENFORCED_PATH, MAX_BATCH_BYTES, MAX_VMS, POLL_PATH, VmStatus, is_gateway_name,
};

use super::access::{Endpoints, GATEWAY};
use omniflow_domain::error::Error;

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints
        .post(POLL_PATH, GATEWAY, poll::poll)
        .get("/gateway/v1/images/{version}/chunks/{n}", GATEWAY, images::chunk)
        .post(ENFORCED_PATH, GATEWAY, poll::enforced)
        .post_large(AUDIT_PATH, GATEWAY, MAX_BATCH_BYTES, audit::ingest)
}

fn check_name(name: &str) -> Result<(), Error> {
    if is_gateway_name(name) {
        return Ok(());
    }
    let detail = "a gateway's name has 1 to 128 printable ASCII characters and no spaces";
    Err(Error::invalid_field("/gateway", detail))
}

fn check_vms(vms: &[VmStatus]) -> Result<(), Error> {
    if vms.len() <= MAX_VMS {
        return Ok(());
    }
    Err(Error::invalid_field("/vms", format!("a gateway has at most {MAX_VMS} VMs")))
}
