//! Polls of gateways for changes.

use std::sync::Arc;
use std::time::Duration;

use omniflow_domain::error::Error;
use omniflow_domain::gateway::GatewayId;
use omniflow_domain::token::Token;
use omniflow_domain::version::MAX_REPORTED_VERSION;
use omniflow_policy::gateway::{MAX_POLL_WAIT_MS, PollRequest};
use omniflow_policy::snapshot::{self, Delta};
use tokio::time::{Instant, sleep_until};

use super::{GatewayProtocol, check_name, check_vms};
use crate::authentication::TokenGuard;
use crate::fleet::VersionBounds;
use crate::publication::{Offer, OfferedImage};
use crate::run_to_completion;

/// The maximum length of a filter's version, in bytes.
const MAX_FILTER_VERSION: usize = 64;

/// The response to a poll.
pub enum PollAnswer {
    /// Nothing was published in the time, or the gateway has to authenticate again.
    Nothing,
    /// The changes after the gateway's version.
    Delta(Delta),
    /// The whole image, and the published version, which may be later; the gateway fetches its chunks next.
    Image(Arc<OfferedImage>, u64),
}

// === impl GatewayProtocol ===

impl GatewayProtocol {
    /// Returns immediately if there is a newer version, and otherwise as soon as there is one.
    ///
    /// # Errors
    ///
    /// `invalid_field`; `unauthenticated`; `gateway_not_permitted`, `gateway_of_other_token`, `too_many_gateways` if the
    /// token may not act for this run.
    pub async fn poll(self: &Arc<Self>, token: &Token, request: &PollRequest) -> Result<PollAnswer, Error> {
        check(request)?;
        // The request may have taken a minute to arrive: a token that was revoked in the meantime gets nothing.
        let guard =
            TokenGuard::new(Arc::clone(&self.store), self.clock.clone(), &self.notifications, token.id);
        if !guard.is_valid().await? {
            return Err(Error::unauthenticated());
        }
        let id = GatewayId { gateway: request.gateway.clone(), incarnation: request.incarnation };
        self.fleet.count_poll(token);
        self.fleet.admit(token, &id)?;
        self.cut_polls.polled(&request.gateway, request.cut_after_ms);
        let bounds = self.bounds(request.installation)?;
        let open = self.fleet.poll_began(request, bounds);
        self.observe_enforcement(&request.gateway, request.incarnation);
        let answer = self.wait(guard, request, bounds).await;
        open.answered();
        match answer? {
            Some(answer) => Ok(answer),
            None => Err(self.fleet.refuse_version(token, &id, request.version)),
        }
    }

    /// `None` if the gateway reports a version that was never published.
    async fn wait(
        self: &Arc<Self>,
        mut guard: TokenGuard,
        request: &PollRequest,
        bounds: VersionBounds,
    ) -> Result<Option<PollAnswer>, Error> {
        let deadline = Instant::now() + Duration::from_millis(request.wait_ms.min(MAX_POLL_WAIT_MS));
        let publication = &self.publisher.publication;
        let mut published = publication.subscribe();
        let enforced = request.vms.iter().map(|vm| vm.version).max().unwrap_or(0);
        let versions = (request.version, enforced, bounds.plausible);
        let mut has_waited = false;
        let answer = loop {
            published.mark_unchanged();
            match publication.offer(request.installation, versions, self.clock.now())? {
                Offer::Delta(delta) => break PollAnswer::Delta(delta),
                Offer::Image(image, published) => break PollAnswer::Image(image, published),
                Offer::Superseded => {
                    let (publisher, held) = (Arc::clone(&self.publisher), request.version);
                    run_to_completion(async move { Ok(publisher.pass_version(held).await?) }).await?;
                }
                Offer::Unpublished => return Ok(None),
                Offer::Nothing => tokio::select! {
                    biased;
                    // Perhaps the token of this poll: the next poll is checked.
                    () = guard.revoked() => return Ok(Some(PollAnswer::Nothing)),
                    // An error would mean that nothing can ever be published again: the deadline ends the wait.
                    Ok(()) = published.changed() => has_waited = true,
                    () = sleep_until(deadline) => return Ok(Some(PollAnswer::Nothing)),
                    () = self.notifications.stopped() => return Ok(Some(PollAnswer::Nothing)),
                },
            }
        };
        // A poll that began after the publication does not measure the delay.
        let published_at = publication.first_published_between(request.version, u64::MAX);
        if let Some(at) = published_at.filter(|_| has_waited) {
            self.metrics.observe_poll_delay(at.elapsed());
        }
        Ok(Some(answer))
    }
}

fn check(request: &PollRequest) -> Result<(), Error> {
    check_name(&request.gateway)?;
    check_vms(&request.vms)?;
    if request.filter_version.len() > MAX_FILTER_VERSION {
        let detail = format!("a filter version must have at most {MAX_FILTER_VERSION} bytes");
        return Err(Error::invalid_field("/filter_version", detail));
    }
    if request.snapshot_format < snapshot::FORMAT {
        let detail =
            format!("this control plane uses snapshot format {}: update the filter", snapshot::FORMAT);
        return Err(Error::invalid_field("/snapshot_format", detail));
    }
    if request.version > MAX_REPORTED_VERSION {
        let detail = "no control plane has published this version; send 0 to get the whole snapshot";
        return Err(Error::invalid_field("/version", detail));
    }
    Ok(())
}
