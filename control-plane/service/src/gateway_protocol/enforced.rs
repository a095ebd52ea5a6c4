//! What is enforced.

use omniflow_domain::error::Error;
use omniflow_policy::gateway::EnforcedReport;

use super::{GatewayProtocol, check_name, check_vms};

// === impl GatewayProtocol ===

impl GatewayProtocol {
    /// Records what each VM of a gateway enforces.
    pub fn enforced(&self, report: &EnforcedReport) -> Result<(), Error> {
        check_name(&report.gateway)?;
        check_vms(&report.vms)?;
        self.fleet.reported(report, report.installation == Some(self.publisher.installation.id));
        self.observe_enforcement(&report.gateway, report.incarnation);
        Ok(())
    }
}
