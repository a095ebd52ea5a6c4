//! The leader's work: it polls the control plane, and brings what comes into shared data for all VMs.
//!
//! A delta changes the pages it touches; a full image goes into the slot that is not in use, and takes over when it
//! is whole. Both are done a few pages at a time, because the leader's thread serves requests too. Until the last
//! page is written the last good version stays in force.

mod delta;
mod image;

use std::collections::VecDeque;
use std::time::Duration;

use omniflow_policy::gateway::{
    DELTA_MEDIA_TYPE, ENFORCED_PATH, EnforcedReport, MANIFEST_MEDIA_TYPE, POLL_PATH, PollRequest, VmStatus,
};
use omniflow_policy::snapshot::{self, Manifest, SnapshotError};
use omniflow_policy::time::MonotonicNanos;

use self::delta::DeltaWork;
use self::image::ImageTransfer;
use crate::abi::LogLevel;
use crate::backoff::Backoff;
use crate::clock;
use crate::config::{Config, TOKEN_VARIABLE};
use crate::control_plane::{self, Answer, CallId, NotSent};
use crate::host;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::shared::{self, Head, Names};

/// How long the control plane may hold a poll.
const POLL_WAIT: Duration = Duration::from_secs(20);
/// How much longer than that Envoy waits for the answer.
const POLL_GRACE: Duration = Duration::from_secs(10);
const JSON: &str = "application/json";
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The first pause after a failure; it doubles up to the longest. The longest keeps a gateway that has come up
/// before its control plane well within a second of it.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);
/// The pause after a refusal that only the operator can mend.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);
/// The least time between two polls that bring nothing, against a control plane that does not hold them.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// For how long pages are written before the thread is given back: it serves requests too.
const STEP: Duration = Duration::from_micros(500);

/// A piece of work, of at least one page.
struct Step {
    began: MonotonicNanos,
    is_first: bool,
}

/// What the others must be told.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// A new version is in force in shared data.
    pub(crate) changed: Option<Changed>,
    /// There is more to do as soon as the thread is free.
    pub(crate) more: bool,
}

/// A version that has taken over.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// The pages that differ; `None` for all.
    pub(crate) pages: Option<Vec<u32>>,
}

/// What the leader is at.
pub(crate) struct Leader {
    names: Names,
    state: State,
    backoff: Backoff,
    /// The next poll asks for a full image: what is in shared data did not go with a delta.
    from_scratch: bool,
    /// The last problem that was logged, so that each is logged once.
    problem: Option<String>,
    /// What the control plane was last told about the VMs.
    told: Vec<VmStatus>,
    report: Option<CallId>,
    /// How many pages of the slot that is not in use are still to be looked at and cleared.
    clearing: Option<u32>,
}

/// A version whose pages are in shared data.
struct TakeOver {
    next: Head,
    /// Where it differs from the one that is there.
    manifest: Option<Manifest>,
    /// After a delta: the version before it, and the pages that differ. `None` after a full image.
    pages: Option<(u64, Vec<u32>)>,
}

enum State {
    /// Nothing under way; a poll follows at `until`.
    Resting { until: MonotonicNanos },
    /// A poll is held by the control plane.
    Polling { call: CallId, since: MonotonicNanos },
    /// A chunk of a full image is on its way.
    Fetching { call: CallId, image: ImageTransfer },
    /// A chunk of it is being written.
    Storing { image: ImageTransfer, pages: VecDeque<Vec<u8>> },
    /// A delta is being applied.
    Applying { delta: DeltaWork },
}

/// What the leader needs of the VM.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a Config,
    pub(crate) gateway: &'a str,
    pub(crate) metrics: &'a Metrics,
    pub(crate) peers: &'a Peers,
    pub(crate) now: MonotonicNanos,
}

impl Step {
    fn begin() -> Self {
        Self { began: clock::monotonic(), is_first: true }
    }

    /// Whether there is time for one more page.
    fn goes_on(&mut self) -> bool {
        std::mem::take(&mut self.is_first) || clock::monotonic().since(self.began) < STEP
    }
}

impl Leader {
    /// A leader that polls at once.
    pub(crate) fn new(names: Names) -> Self {
        Self {
            names,
            state: State::Resting { until: MonotonicNanos(0) },
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            from_scratch: false,
            problem: None,
            told: Vec::new(),
            report: None,
            // The leader before may not have come to its end, or have left half of an image.
            clearing: Some(image::MOST_PAGES),
        }
    }

    /// Polls when it is time, and tells the control plane what the VMs enforce when that has changed.
    pub(crate) fn tick(&mut self, context: &Context<'_>) -> Progress {
        match self.state {
            State::Resting { until } if until <= context.now => self.poll(context),
            State::Polling { .. } => self.report(context),
            // Should the message be lost that was to continue this.
            State::Storing { .. } | State::Applying { .. } => return self.step(context),
            _ => {}
        }
        Progress { more: self.clear_old_slot(context.peers), ..Progress::default() }
    }

    /// Some VM enforces another version now: the control plane is told when all do, else at the next tick.
    pub(crate) fn enforced(&mut self, context: &Context<'_>) -> Progress {
        if context.peers.all_enforce(self.head().map_or(0, |head| head.version)) {
            return self.tick(context);
        }
        Progress::default()
    }

    /// A call was answered. One that is not the leader's, or of a leader before it, changes nothing.
    pub(crate) fn answered(&mut self, context: &Context<'_>, id: CallId, answer: Option<Answer>) -> Progress {
        if self.report == Some(id) {
            self.report = None;
            if answer.is_none_or(|answer| answer.status != 204) {
                // Told again at the next tick.
                self.told.clear();
            }
            return Progress::default();
        }
        let resting = State::Resting { until: context.now };
        match std::mem::replace(&mut self.state, resting) {
            State::Polling { call, since } if call == id => self.polled(context, since, answer),
            State::Fetching { call, image } if call == id => self.fetched(context, image, answer),
            other => {
                self.state = other;
                Progress::default()
            }
        }
    }

    /// Does the next piece of work that was cut.
    pub(crate) fn step(&mut self, context: &Context<'_>) -> Progress {
        let resting = State::Resting { until: context.now };
        match std::mem::replace(&mut self.state, resting) {
            State::Storing { image, pages } => self.store(context, image, pages),
            State::Applying { delta } => self.apply(context, delta),
            other => {
                self.state = other;
                Progress { more: self.clear_old_slot(context.peers), ..Progress::default() }
            }
        }
    }

    fn head(&self) -> Option<Head> {
        shared::get_as::<Head>(&self.names.head()).value
    }

    fn poll(&mut self, context: &Context<'_>) {
        let head = self.head().filter(|_| !self.from_scratch);
        // An age limit needs confirmations well within it.
        let wait = context.config.max_snapshot_age.map_or(POLL_WAIT, |age| POLL_WAIT.min(age / 3));
        let request = PollRequest {
            gateway: context.gateway.to_owned(),
            incarnation: context.peers.process(),
            filter_version: env!("CARGO_PKG_VERSION").to_owned(),
            snapshot_format: snapshot::FORMAT,
            installation: head.and_then(|head| self.installation(head)),
            version: head.map_or(0, |head| head.version),
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            clock: clock::now(),
            vms: context.peers.statuses(),
        };
        let Ok(body) = serde_json::to_vec(&request) else { return };
        match control_plane::post(context.config, POLL_PATH, JSON, &body, wait + POLL_GRACE) {
            Ok(call) => {
                self.told = request.vms;
                self.state = State::Polling { call, since: context.now };
            }
            Err(error) => self.not_sent(context, error),
        }
    }

    fn installation(&self, head: Head) -> Option<uuid::Uuid> {
        let manifest = shared::get(&self.names.manifest(head.slot)).value.filter(|_| head.version != 0)?;
        Some(Manifest::decode(&manifest).ok()?.installation)
    }

    fn report(&mut self, context: &Context<'_>) {
        let vms = context.peers.statuses();
        if vms == self.told || self.report.is_some() {
            return;
        }
        let report = EnforcedReport {
            gateway: context.gateway.to_owned(),
            incarnation: context.peers.process(),
            installation: self.head().and_then(|head| self.installation(head)),
            vms,
        };
        let Ok(body) = serde_json::to_vec(&report) else { return };
        if let Ok(id) = control_plane::post(context.config, ENFORCED_PATH, JSON, &body, CALL_TIMEOUT) {
            self.report = Some(id);
            self.told = report.vms;
        }
    }

    fn polled(&mut self, context: &Context<'_>, since: MonotonicNanos, answer: Option<Answer>) -> Progress {
        let Some(answer) = answer else {
            return self.fail(context, "the control plane did not answer", None);
        };
        match (answer.status, answer.media_type.as_slice()) {
            (204, _) => {
                self.from_scratch = false;
                self.succeed(context);
                self.state = State::Resting { until: since.after(POLL_INTERVAL) };
                // The usual end of a poll that was held: the next one follows at once.
                self.tick(context)
            }
            (200, media) if media == DELTA_MEDIA_TYPE.as_bytes() => match self.begin_delta(&answer.body) {
                Ok(()) => self.step(context),
                Err(error) => self.reject_delta(context, error),
            },
            (200, media) if media == MANIFEST_MEDIA_TYPE.as_bytes() => {
                self.from_scratch = false;
                self.begin_image(context, &answer.body)
            }
            (200, _) => self.reject(context, SnapshotError::Foreign),
            _ => self.refused(context, &answer),
        }
    }

    /// Puts a version in force, unless another leader was faster. Its pages are written already.
    fn take_over(&mut self, context: &Context<'_>, version: TakeOver) -> Progress {
        let TakeOver { next, manifest, pages } = version;
        let read = shared::get_as::<Head>(&self.names.head());
        let held = read.value.map_or(0, |head| head.version);
        let follows = match (&pages, read.value) {
            (Some((from, _)), Some(head)) => *from == held && head.slot == next.slot,
            (None, Some(head)) if held != 0 => head.slot != next.slot,
            (pages, _) => pages.is_none(),
        };
        if !follows || next.version <= held {
            return self.reject(context, SnapshotError::Mismatch);
        }
        // The manifest comes first: a VM that sees the new head must find it. It never goes back in time either.
        let written = manifest.is_none_or(|manifest| self.write_manifest(next.slot, &manifest));
        if !written || shared::swap_as(&self.names.head(), &read, &next).is_err() {
            return self.reject(context, SnapshotError::Mismatch);
        }
        self.succeed(context);
        context.metrics.snapshot_version(next.version);
        // The next poll waits for the other VMs, or for the next tick: it carries what they enforce.
        self.state = State::Resting { until: context.now };
        let pages = pages.map(|(_, pages)| pages);
        Progress { changed: Some(Changed { from: held, to: next.version, pages }), more: false }
    }

    fn write_manifest(&self, slot: u8, manifest: &Manifest) -> bool {
        let name = self.names.manifest(slot);
        let read = shared::get(&name);
        let newer = read.value.as_deref().and_then(|bytes| Manifest::decode(bytes).ok());
        newer.is_none_or(|newer| newer.version <= manifest.version)
            && shared::swap(&name, &read, &manifest.encode()).is_ok()
    }

    fn succeed(&mut self, context: &Context<'_>) {
        self.backoff.reset();
        shared::update(&self.names.head(), |head: Option<Head>| {
            head.map(|head| Head { confirmed: head.confirmed.max(context.now.0), ..head })
        });
        if self.problem.take().is_some() {
            host::log(LogLevel::Warn, "the control plane answers again");
        }
    }

    fn not_sent(&mut self, context: &Context<'_>, error: NotSent) {
        match error {
            NotSent::UnknownCluster => {
                let problem = format!("Envoy has no cluster {:?}: check \"cluster\"", context.config.cluster);
                self.fail(context, &problem, Some(REFUSED_PAUSE));
            }
            NotSent::Unreachable => {
                self.fail(context, "no host of the control plane's cluster is reachable", None);
            }
        }
    }

    fn refused(&mut self, context: &Context<'_>, answer: &Answer) -> Progress {
        let status = answer.status;
        match status {
            // 429 is what 401 becomes where many wrong tokens come from this address: told alike, or the log would
            // change with each of them.
            401 | 403 | 429 => {
                let problem = format!(
                    "the control plane refused the gateway token: set \"gateway_token\" or \
                     {TOKEN_VARIABLE} to a valid token of the role gateway"
                );
                self.fail(context, &problem, Some(REFUSED_PAUSE))
            }
            // A newer image has replaced it while it was fetched.
            410 => self.fail(context, "the image that was being fetched is no longer offered", None),
            // Envoy's own answer where nobody listens, and the control plane's while it starts.
            503 => self.fail(context, "the control plane is unavailable (503)", None),
            _ => {
                let said = omniflow_policy::audit::clip(answer.body.get(..300).unwrap_or(&answer.body));
                self.fail(
                    context,
                    &format!("the control plane answered {status}: {said}"),
                    Some(REFUSED_PAUSE),
                )
            }
        }
    }

    /// A delta that does not go with what is in shared data will not do so the next time: a full image will.
    fn reject_delta(&mut self, context: &Context<'_>, error: SnapshotError) -> Progress {
        self.from_scratch = true;
        self.reject(context, error)
    }

    fn reject(&mut self, context: &Context<'_>, error: SnapshotError) -> Progress {
        context.metrics.snapshot_refused();
        let remedy = match error {
            SnapshotError::OtherInstallation => {
                "; to move this gateway to another installation, restart Envoy"
            }
            SnapshotError::Format(_) => "; update the older side",
            _ => "",
        };
        let problem = format!("a snapshot was refused and the last good one stays: {error}{remedy}");
        self.fail(context, &problem, Some(REFUSED_PAUSE))
    }

    fn fail(&mut self, context: &Context<'_>, problem: &str, pause: Option<Duration>) -> Progress {
        if self.problem.as_deref() != Some(problem) {
            host::log(LogLevel::Error, problem);
            self.problem = Some(problem.to_owned());
        }
        let pause = pause.unwrap_or_else(|| self.backoff.pause());
        self.state = State::Resting { until: context.now.after(pause) };
        Progress::default()
    }
}
