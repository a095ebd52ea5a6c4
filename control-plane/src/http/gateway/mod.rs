//! `/gateway/v1`: what filters call. Nobody else may.

mod audit;
mod images;
mod poll;

use omniflow_policy::gateway::{EnforcedReport, VmStatus};

use super::access::{Endpoints, GATEWAY};
use super::problem::Problem;

/// The most bytes of a batch of audit records.
const AUDIT_LIMIT: usize = 4 * 1024 * 1024;
/// The most bytes of a gateway's name, and of its filter's version.
const MAX_NAME_LENGTH: usize = 256;
/// The most VMs of one gateway. Envoy has one for each worker thread.
const MAX_VMS: usize = 4_096;

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints
        .post("/gateway/v1/poll", GATEWAY, poll::poll)
        .get("/gateway/v1/images/{version}/chunks/{n}", GATEWAY, images::chunk)
        .post("/gateway/v1/enforced", GATEWAY, poll::enforced)
        .post_large("/gateway/v1/audit", GATEWAY, AUDIT_LIMIT, audit::ingest)
}

fn check_name(name: &str) -> Result<(), Problem> {
    if (1..=MAX_NAME_LENGTH).contains(&name.len()) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let detail = format!("a gateway's name has 1 to {MAX_NAME_LENGTH} bytes and no control characters");
    Err(Problem::invalid_field("/gateway", detail))
}

fn check_vms(vms: &[VmStatus]) -> Result<(), Problem> {
    if vms.len() <= MAX_VMS {
        return Ok(());
    }
    Err(Problem::invalid_field("/vms", format!("a gateway has at most {MAX_VMS} VMs")))
}

fn check_report(report: &EnforcedReport) -> Result<(), Problem> {
    check_name(&report.gateway)?;
    check_vms(&report.vms)
}
