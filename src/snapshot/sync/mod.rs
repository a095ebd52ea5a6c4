//! The leader's work: it polls the control plane and writes new versions into shared data for all VMs.
//!
//! A delta changes the segments that it touches. A full image is written into the unused slot and takes over when it is
//! complete. Both are written a few segments at a time, because the leader's thread also serves requests. Until the
//! last segment is written, the last valid version stays effective.

mod delta;
mod failure;
mod image;
mod poll_wait;
mod state;

use std::time::Duration;

use omniflow_policy::gateway::{
    DELTA_MEDIA_TYPE, ENFORCED_PATH, EnforcedReport, MANIFEST_MEDIA_TYPE, POLL_PATH, PollRequest, VmStatus,
};
use omniflow_policy::snapshot::{self, Manifest, SnapshotError};
use omniflow_policy::time::MonotonicNanos;

use self::poll_wait::PollWait;
use self::state::{MAX_SEGMENTS, NextVersion, State};
use crate::backoff::Backoff;
use crate::clock;
use crate::config::Config;
use crate::control_plane::{self, CallToken, Response};
use crate::host::{self, LogLevel};
use crate::metrics::Metrics;
use crate::workers::membership::Membership;
use crate::workers::shared_data::{self, Head, Names};

/// Time that Envoy waits for the response beyond the time for which the control plane may hold a poll.
const POLL_GRACE: Duration = Duration::from_secs(10);
const JSON: &str = "application/json";
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The first pause after a failure. Pauses double up to a maximum that is short enough for a gateway that started
/// before its control plane to connect within a second.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_millis(400);
/// The pause after a rejection that only an operator can resolve.
const REJECTED_PAUSE: Duration = Duration::from_secs(2);
/// The minimum time between two empty polls, for a control plane that does not hold them.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The minimum time between two repairs. A plugin that overwrites shared data again and again causes no more downloads.
const REPAIR_INTERVAL: Duration = Duration::from_secs(5);
/// How long segments are written before the thread serves requests again.
const STEP: Duration = Duration::from_micros(500);

/// One write step, of at least one segment.
struct Step {
    began: MonotonicNanos,
    is_first: bool,
}

/// The outcome of one step of the leader's work.
#[derive(Debug, Default)]
pub(crate) struct SyncOutcome {
    /// A new version is effective in shared data.
    pub(crate) changed: Option<Changed>,
    /// The work continues as soon as the thread is free.
    pub(crate) has_more: bool,
}

/// A version that has taken over.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// The segments that differ. `None` for all.
    pub(crate) segments: Option<Vec<u32>>,
}

/// The leader's state.
pub(crate) struct Leader {
    names: Names,
    state: State,
    backoff: Backoff,
    poll_wait: PollWait,
    /// The next poll requests a full image, because a delta did not match shared data.
    needs_full_image: bool,
    /// The last failure that was logged, so that each is logged once.
    last_failure: Option<String>,
    /// The VM statuses that were last sent to the control plane.
    sent_statuses: Vec<VmStatus>,
    report: Option<CallToken>,
    /// The number of segments of the unused slot that are still to be cleared.
    clearing: Option<u32>,
    /// When a new image was last requested in place of a damaged one.
    repaired: Option<MonotonicNanos>,
}

/// The parts of the VM that the leader needs.
pub(crate) struct SyncContext<'a> {
    pub(crate) config: &'a Config,
    pub(crate) gateway: &'a str,
    pub(crate) metrics: &'a Metrics,
    pub(crate) membership: &'a Membership,
    pub(crate) now: MonotonicNanos,
}

/// Whole milliseconds, for a request.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Step {
    fn begin() -> Self {
        Self { began: clock::monotonic(), is_first: true }
    }

    /// Whether there is time for one more segment.
    fn has_time(&mut self) -> bool {
        std::mem::take(&mut self.is_first) || clock::monotonic().since(self.began) < STEP
    }
}

impl Leader {
    /// A leader that polls immediately.
    pub(crate) fn new(names: Names) -> Self {
        Self {
            names,
            state: State::Resting { until: MonotonicNanos(0) },
            backoff: Backoff::new(FIRST_PAUSE, MAX_PAUSE),
            poll_wait: PollWait::new(),
            needs_full_image: false,
            last_failure: None,
            sent_statuses: Vec::new(),
            report: None,
            // The previous leader may have stopped halfway or left part of an image.
            clearing: Some(MAX_SEGMENTS),
            repaired: None,
        }
    }

    /// Polls when it is due, and reports what the VMs enforce when that has changed.
    pub(crate) fn tick(&mut self, context: &SyncContext<'_>) -> SyncOutcome {
        self.repair(context);
        match self.state {
            State::Resting { until } if until <= context.now => self.poll(context),
            State::Polling { .. } => self.report(context),
            // The message that continues this work may have been lost.
            State::Storing { .. } | State::Applying { .. } => return self.step(context),
            _ => {}
        }
        SyncOutcome { has_more: self.clear_unused_slot(context.membership), ..SyncOutcome::default() }
    }

    /// Requests a new image if parts of the current one are not valid. The response to a poll that is in flight is ignored.
    fn repair(&mut self, context: &SyncContext<'_>) {
        let is_idle = matches!(self.state, State::Resting { .. } | State::Polling { .. });
        let is_due = self.repaired.is_none_or(|at| context.now.since(at) >= REPAIR_INTERVAL);
        if is_idle && is_due && context.membership.any_needs_image() {
            self.repaired = Some(context.now);
            self.needs_full_image = true;
            self.state = State::Resting { until: context.now };
            host::log(
                LogLevel::Error,
                "parts of the snapshot in shared data are not valid, a new image is requested",
            );
        }
    }

    /// A VM enforces another version. Reports it immediately if all VMs do, and otherwise at the next tick.
    pub(crate) fn on_enforced(&mut self, context: &SyncContext<'_>) -> SyncOutcome {
        if context.membership.all_enforce(self.head().map_or(0, |head| head.version)) {
            return self.tick(context);
        }
        SyncOutcome::default()
    }

    /// Handles the response to a call. The response to a call by a previous leader changes nothing.
    pub(crate) fn on_response(
        &mut self,
        context: &SyncContext<'_>,
        token: CallToken,
        response: Option<Response>,
    ) -> SyncOutcome {
        if self.report == Some(token) {
            self.report = None;
            if response.is_none_or(|response| response.status != 204) {
                // Reported again at the next tick.
                self.sent_statuses.clear();
            }
            return SyncOutcome::default();
        }
        let resting = State::Resting { until: context.now };
        match std::mem::replace(&mut self.state, resting) {
            State::Polling { call, since } if call == token => {
                self.on_poll_response(context, since, response)
            }
            State::Fetching { call, image } if call == token => self.on_chunk(context, image, response),
            other => {
                self.state = other;
                SyncOutcome::default()
            }
        }
    }

    /// Continues work that was split into steps.
    pub(crate) fn step(&mut self, context: &SyncContext<'_>) -> SyncOutcome {
        let resting = State::Resting { until: context.now };
        match std::mem::replace(&mut self.state, resting) {
            State::Storing { image, segments } => self.store(context, image, segments),
            State::Applying { delta } => self.apply(context, delta),
            other => {
                self.state = other;
                SyncOutcome { has_more: self.clear_unused_slot(context.membership), ..SyncOutcome::default() }
            }
        }
    }

    fn head(&self) -> Option<Head> {
        shared_data::get_as::<Head>(&self.names.head()).value
    }

    fn poll(&mut self, context: &SyncContext<'_>) {
        let head = self.head().filter(|_| !self.needs_full_image);
        let wait = self.poll_wait.next(context.config.max_snapshot_age);
        let request = PollRequest {
            gateway: context.gateway.to_owned(),
            incarnation: context.membership.process(),
            filter_version: env!("CARGO_PKG_VERSION").to_owned(),
            snapshot_format: snapshot::FORMAT,
            installation: head.as_ref().and_then(|head| self.installation(head)),
            version: head.as_ref().map_or(0, |head| head.version),
            wait_ms: millis(wait),
            cut_after_ms: self.poll_wait.cut_after().map(millis),
            clock: clock::now(),
            vms: context.membership.statuses(),
        };
        let Ok(body) = serde_json::to_vec(&request) else { return };
        match control_plane::post(context.config, POLL_PATH, JSON, &body, wait + POLL_GRACE) {
            Ok(call) => {
                self.sent_statuses = request.vms;
                self.state = State::Polling { call, since: context.now };
            }
            Err(error) => self.dispatch_failed(context, error),
        }
    }

    fn installation(&self, head: &Head) -> Option<uuid::Uuid> {
        let manifest =
            shared_data::get(&self.names.manifest(head.slot)).value.filter(|_| head.version != 0)?;
        Some(Manifest::decode(&manifest).ok()?.installation)
    }

    fn report(&mut self, context: &SyncContext<'_>) {
        let vms = context.membership.statuses();
        if vms == self.sent_statuses || self.report.is_some() {
            return;
        }
        let report = EnforcedReport {
            gateway: context.gateway.to_owned(),
            incarnation: context.membership.process(),
            installation: self.head().and_then(|head| self.installation(&head)),
            vms,
        };
        let Ok(body) = serde_json::to_vec(&report) else { return };
        if let Ok(call) = control_plane::post(context.config, ENFORCED_PATH, JSON, &body, CALL_TIMEOUT) {
            self.report = Some(call);
            self.sent_statuses = report.vms;
        }
    }

    fn on_poll_response(
        &mut self,
        context: &SyncContext<'_>,
        since: MonotonicNanos,
        response: Option<Response>,
    ) -> SyncOutcome {
        let is_of_control_plane = response.as_ref().is_some_and(Response::is_of_control_plane);
        if !is_of_control_plane && self.poll_wait.was_cut(context.now.since(since)) {
            // Not a failure yet: the next poll, which is not held, distinguishes a cut poll from an unavailable control plane.
            self.state = State::Resting { until: context.now };
            return self.tick(context);
        }
        let Some(response) = response else {
            return self.fail(context, "the control plane did not respond", None);
        };
        match (response.status, response.media_type.as_slice()) {
            (204, _) => {
                self.needs_full_image = false;
                self.succeed(context);
                self.serve_current_version();
                self.state = State::Resting { until: since.after(POLL_INTERVAL) };
                // The usual end of a held poll. The next one follows immediately.
                self.tick(context)
            }
            (200, media) if media == DELTA_MEDIA_TYPE.as_bytes() => match self.begin_delta(&response.body) {
                Ok(()) => self.step(context),
                Err(error) => self.reject_delta(context, error),
            },
            (200, media) if media == MANIFEST_MEDIA_TYPE.as_bytes() => {
                self.begin_image(context, &response.body, response.published_version)
            }
            (200, _) => self.reject(context, SnapshotError::Foreign),
            _ => self.reject_status(context, &response),
        }
    }

    /// Activates a version, unless another leader was faster. The segments of the version are already written.
    fn take_over(&mut self, context: &SyncContext<'_>, next: NextVersion) -> SyncOutcome {
        let NextVersion { head: next, manifest, segments } = next;
        let mut read = shared_data::get_as::<Head>(&self.names.head());
        let current = read.value.take();
        let held = current.as_ref().map_or(0, |head| head.version);
        let follows = match (&segments, current) {
            (Some((from, _)), Some(head)) => *from == held && head.slot == next.slot,
            (None, Some(head)) if held != 0 => head.slot != next.slot,
            (segments, _) => segments.is_none(),
        };
        if !follows || !self.may_follow(next.version, held) {
            return self.reject(context, SnapshotError::Mismatch);
        }
        // The manifest is written first, because a VM that reads the new head needs it. It never becomes older.
        let written = manifest.is_none_or(|manifest| self.write_manifest(next.slot, &manifest));
        if !written || shared_data::swap_as(&self.names.head(), &read, &next).is_err() {
            return self.reject(context, SnapshotError::Mismatch);
        }
        if segments.is_none() {
            self.needs_full_image = false;
        }
        self.succeed(context);
        context.metrics.set_snapshot_version(next.version);
        // The next poll waits for the other VMs or the next tick, because it carries the versions that they enforce.
        self.state = State::Resting { until: context.now };
        let segments = segments.map(|(_, segments)| segments);
        SyncOutcome { changed: Some(Changed { from: held, to: next.version, segments }), has_more: false }
    }

    /// Whether a version may take the place of another one: of the same one only in place of a damaged image.
    fn may_follow(&self, version: u64, held: u64) -> bool {
        version > held || (version == held && self.needs_full_image)
    }

    fn write_manifest(&self, slot: u8, manifest: &Manifest) -> bool {
        let name = self.names.manifest(slot);
        let read = shared_data::get(&name);
        let newer = read.value.as_deref().and_then(|bytes| Manifest::decode(bytes).ok());
        newer.is_none_or(|newer| newer.version <= manifest.version)
            && shared_data::swap(&name, &read, &manifest.encode()).is_ok()
    }

    /// The control plane has confirmed that the version in shared data is the published one, so requests are decided with it. A
    /// database that was replaced by an older copy may have a lower version than the one that was published at the start.
    pub(super) fn serve_current_version(&self) {
        let is_waiting = self.head().is_some_and(|head| head.version < head.serves_from);
        if is_waiting {
            let names = &self.names;
            shared_data::update(&names.head(), |head: Option<Head>| {
                head.map(|head| Head { serves_from: 0, ..head })
            });
        }
    }

    fn succeed(&mut self, context: &SyncContext<'_>) {
        self.backoff.reset();
        if let Some(held) = self.poll_wait.succeeded() {
            let warning = format!(
                "a proxy in front of the control plane cuts polls off after {} s: polls are shorter from now on; set the proxy's timeout above 30 s to avoid this",
                held.as_secs()
            );
            host::log(LogLevel::Warn, &warning);
        }
        shared_data::update(&self.names.head(), |head: Option<Head>| {
            head.map(|head| Head { confirmed: head.confirmed.max(context.now.0), ..head })
        });
        if self.last_failure.take().is_some() {
            host::log(LogLevel::Warn, "polling the control plane recovered");
        }
    }
}
