//! Which token may act for which run of a gateway, and how many runs a token may have.

use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::gateway::{GatewayId, GatewayState};
use omniflow_domain::token::Token;
use omniflow_policy::time::UnixMillis;

use super::presence::{Runs, runs_named};
use super::tokens::UsedToken;
use super::{Fleet, Gateway, MAX_GATEWAYS};

/// Maximum number of runs with one token that may still be serving requests.
const MAX_RUNS_OF_TOKEN: usize = 1_000;

// === impl Fleet ===

impl Fleet {
    /// Admits a poll or a report of a run with a token, and binds the run to the token.
    ///
    /// # Errors
    ///
    /// `unauthenticated` if the token was revoked or has expired since the request began; `gateway_not_permitted`,
    /// `gateway_of_other_token`, `too_many_gateways`.
    pub(crate) fn admit(&self, token: &Token, id: &GatewayId) -> Result<(), Error> {
        self.check_name(token, id)?;
        let now = self.clock.now();
        let mut runs = self.lock();
        if !token.is_valid(now) || self.revoked().contains(&token.digest) {
            return Err(Error::unauthenticated());
        }
        match runs.get(id) {
            Some(run) => self.check_binding(run, token, id, now)?,
            None => self.make_room(&mut runs, token, now)?,
        }
        let run = runs.entry(id.clone()).or_insert_with(|| Gateway::new(now));
        run.token = Some(UsedToken::new(token, &id.gateway));
        Ok(())
    }

    /// Checks that a token may deliver the records of a run. Creates nothing.
    ///
    /// # Errors
    ///
    /// `gateway_not_permitted`, `gateway_of_other_token`.
    pub(crate) fn check_sender(&self, token: &Token, id: &GatewayId) -> Result<(), Error> {
        self.check_name(token, id)?;
        let now = self.clock.now();
        self.lock().get(id).map_or(Ok(()), |run| self.check_binding(run, token, id, now))
    }

    /// Records whether a run has undelivered audit records.
    pub(crate) fn note_progress(&self, id: &GatewayId, is_quiescent: bool) {
        if let Some(run) = self.lock().get_mut(id) {
            run.is_busy = !is_quiescent;
        }
    }

    /// This run, and the runs of its name that a newer run has replaced: without the newer one, they would count again.
    pub(crate) fn with_replaced(&self, id: &GatewayId) -> Vec<GatewayId> {
        let now = self.clock.now();
        let runs = self.lock();
        let goes =
            |(other, run): &(&GatewayId, &Gateway)| *other == id || self.is_replaced(&runs, other, run, now);
        runs_named(&runs, &id.gateway).filter(goes).map(|(other, _)| other.clone()).collect()
    }

    /// Removes runs.
    pub(crate) fn remove(&self, ids: &[GatewayId]) {
        self.lock().retain(|id, _| !ids.contains(id));
        self.heard.send_replace(());
    }

    /// Prevents sightings from being written until the guard is dropped.
    pub(crate) async fn notes(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.notes.lock().await
    }

    /// Refuses a poll that reports a version that was never published.
    pub(crate) fn refuse_version(&self, token: &Token, id: &GatewayId, version: u64) -> Error {
        let detail = format!(
            "The gateway {id} reports version {version}, which this control plane has not published. If its database was \
             replaced by an older copy, restore a backup with omf db restore, or restart the gateway."
        );
        self.refuse(token, ErrorCode::VersionNotPublished, detail)
    }

    fn check_name(&self, token: &Token, id: &GatewayId) -> Result<(), Error> {
        if token.covers(&id.gateway) {
            return Ok(());
        }
        let detail = format!(
            "The token {} is not valid for the gateway {}. Create a token for this gateway with --gateway.",
            token.name, id.gateway
        );
        Err(self.refuse(token, ErrorCode::GatewayNotPermitted, detail))
    }

    /// A run belongs to the token with which it was first seen. Another token may take over if the first one is no
    /// longer accepted, or if the other one lists exactly this gateway: then an owner has permitted it.
    fn check_binding(
        &self,
        run: &Gateway,
        token: &Token,
        id: &GatewayId,
        now: UnixMillis,
    ) -> Result<(), Error> {
        let is_bound_elsewhere = run.token.as_ref().is_some_and(|used| used.token.id != token.id);
        if !is_bound_elsewhere || run.rejected_state(now).is_some() || token.lists(&id.gateway) {
            return Ok(());
        }
        let detail = format!(
            "The gateway process {id} uses another token. Use that token, or create a token that lists the gateway {}.",
            id.gateway
        );
        Err(self.refuse(token, ErrorCode::GatewayOfOtherToken, detail))
    }

    /// Makes room for another run with this token. Runs that may still be serving requests are never removed to make
    /// room.
    fn make_room(&self, runs: &mut Runs, token: &Token, now: UnixMillis) -> Result<(), Error> {
        runs.retain(|_, run| run.is_remembered(now));
        let is_own = |run: &Gateway| run.token.as_ref().is_some_and(|used| used.token.id == token.id);
        if runs.values().filter(|run| is_own(run)).count() >= MAX_RUNS_OF_TOKEN
            && !self.forget_one(runs, now, is_own)
        {
            let detail = format!(
                "The token {} already has {MAX_RUNS_OF_TOKEN} gateway processes that may still be serving requests. Give each Envoy its own token, and use omf gateway remove to remove processes that have ended.",
                token.name
            );
            return Err(self.refuse(token, ErrorCode::TooManyGateways, detail));
        }
        if runs.len() >= MAX_GATEWAYS && !self.forget_one(runs, now, |_| true) {
            let detail = format!(
                "The control plane already has {MAX_GATEWAYS} gateway processes that may still be serving requests. Use omf gateway remove to remove those that have ended."
            );
            return Err(self.refuse(token, ErrorCode::TooManyGateways, detail));
        }
        Ok(())
    }

    /// Removes the longest silent of these runs that has ended or was replaced. Returns whether there was one.
    fn forget_one(&self, runs: &mut Runs, now: UnixMillis, of: impl Fn(&Gateway) -> bool) -> bool {
        let may_serve =
            |(id, run)| self.state(runs, (id, run), now, false).is_some_and(GatewayState::may_serve);
        let gone = runs.iter().filter(|(_, run)| of(run)).filter(|run| !may_serve(*run));
        let oldest = gone.min_by_key(|(_, run)| run.last_seen_at).map(|(id, _)| id.clone());
        oldest.and_then(|oldest| runs.remove(&oldest)).is_some()
    }
}
