//! Reports of enforced versions.

use omniflow_domain::error::Error;
use omniflow_domain::gateway::GatewayId;
use omniflow_domain::token::Token;
use omniflow_policy::gateway::EnforcedReport;

use super::{GatewayProtocol, check_name, check_vms};

// === impl GatewayProtocol ===

impl GatewayProtocol {
    /// Records what each VM of a gateway enforces.
    ///
    /// # Errors
    ///
    /// Those of [`Self::poll`].
    pub fn enforced(&self, token: &Token, report: &EnforcedReport) -> Result<(), Error> {
        check_name(&report.gateway)?;
        check_vms(&report.vms)?;
        let id = GatewayId { gateway: report.gateway.clone(), incarnation: report.incarnation };
        self.fleet.admit(token, &id)?;
        self.fleet.reported(report, self.bounds(report.installation)?);
        self.observe_enforcement(&report.gateway, report.incarnation);
        Ok(())
    }
}
