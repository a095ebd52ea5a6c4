//! Removes a gateway that has ended.

use std::sync::Arc;

use omniflow_domain::admin_event::{Action, NewAdminEvent, Subject};
use omniflow_domain::error::Error;
use omniflow_domain::gateway::GatewayId;
use omniflow_domain::principal::Principal;

use super::{Gateways, no_such_gateway};
use crate::run_to_completion;

// === impl Gateways ===

impl Gateways {
    /// Removes a run of a gateway, so that it no longer counts toward enforcement. It reappears with its next request.
    ///
    /// # Errors
    ///
    /// `not_found` if there is no such run.
    pub async fn remove(self: &Arc<Self>, principal: &Principal, id: &str) -> Result<(), Error> {
        let id = id.parse::<GatewayId>().map_err(|_| no_such_gateway())?;
        let (gateways, principal) = (Arc::clone(self), principal.clone());
        run_to_completion(async move { gateways.remove_known(&principal, &id).await }).await
    }

    async fn remove_known(&self, principal: &Principal, id: &GatewayId) -> Result<(), Error> {
        if !self.fleet.remembers(id) {
            return Err(no_such_gateway());
        }
        let _notes = self.fleet.notes().await;
        let mut transaction = self.store.begin().await?;
        let event = NewAdminEvent {
            time: self.clock.now(),
            principal: principal.reference(),
            action: Action::GatewayRemoved,
            subject: Subject { id: id.to_string(), name: id.gateway.clone() },
            before: None,
            after: None,
        };
        transaction.insert_admin_event(&event).await?;
        let removed = self.fleet.with_replaced(id);
        transaction.remove_sightings(&removed).await?;
        transaction.commit().await?;
        self.fleet.remove(&removed);
        tracing::info!(gateway = %id, by = principal.name.as_str(), "gateway removed");
        Ok(())
    }
}
