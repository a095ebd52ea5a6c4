//! The leader's work: it polls the control plane, and brings what comes into shared data for all VMs.
//!
//! A delta changes the pages it touches; a full image goes into the slot that is not in use, and takes over when it
//! is whole. Both are done a few pages at a time, because the leader's thread serves requests too. Until the last
//! page is written the last good version stays in force.

use std::collections::VecDeque;
use std::time::Duration;

use omniflow_policy::gateway::{
    DELTA_MEDIA_TYPE, EnforcedReport, MANIFEST_MEDIA_TYPE, PollRequest, VmStatus,
};
use omniflow_policy::snapshot::{self, Change, Delta, Manifest, Page, SnapshotError};
use omniflow_policy::time::MonotonicNanos;
use proxy_wasm::types::LogLevel;

use crate::config::Config;
use crate::control_plane::{self, Answer, NotSent, Token};
use crate::host;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::shared::{self, Head, Names};

/// How long the control plane may hold a poll.
const POLL_WAIT: Duration = Duration::from_secs(20);
/// How much longer than that Envoy waits for the answer.
const POLL_GRACE: Duration = Duration::from_secs(10);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The first pause after a failure; it doubles up to the longest. The longest keeps a gateway that has come up
/// before its control plane well within a second of it.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);
/// The pause after a refusal that only the operator can mend.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);
/// Pages that are written before the thread is given back: about a millisecond.
const PAGES_PER_STEP: usize = 16;
/// Shared data has no delete; an empty entry counts as absent.
const CLEARED: &[u8] = &[];

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
    /// The pages that differ; `None` for all.
    pub(crate) pages: Option<Vec<u32>>,
}

/// What the leader is at.
pub(crate) struct Leader {
    names: Names,
    state: State,
    pause: Duration,
    /// The last problem that was logged, so that each is logged once.
    problem: Option<String>,
    /// What the control plane was last told about the VMs.
    told: Vec<VmStatus>,
    report: Option<Token>,
    /// Pages of a slot that is no longer in use, still to be cleared: the slot and the pages that are left.
    clearing: Option<(u8, u32)>,
}

enum State {
    /// Nothing under way; a poll follows at `until`.
    Resting {
        until: MonotonicNanos,
    },
    Polling {
        token: Token,
    },
    /// A full image is on its way.
    Fetching {
        token: Token,
        image: Incoming,
    },
    /// A chunk of it is being written.
    Storing {
        image: Incoming,
        pages: VecDeque<Vec<u8>>,
    },
    Applying {
        delta: Incremental,
    },
}

struct Incoming {
    manifest: Manifest,
    slot: u8,
    next_chunk: u32,
    next_page: u32,
}

struct Incremental {
    manifest: Manifest,
    head: Head,
    delta: Delta,
    left: VecDeque<(u32, Vec<Change>)>,
    touched: Vec<u32>,
}

/// What the leader needs of the VM.
pub(crate) struct Env<'a> {
    pub(crate) config: &'a Config,
    pub(crate) gateway: &'a str,
    pub(crate) metrics: &'a Metrics,
    pub(crate) peers: &'a Peers,
    pub(crate) now: MonotonicNanos,
}

impl Leader {
    /// A leader that polls at once.
    pub(crate) fn new(names: Names) -> Self {
        Self {
            names,
            state: State::Resting { until: MonotonicNanos(0) },
            pause: FIRST_PAUSE,
            problem: None,
            told: Vec::new(),
            report: None,
            clearing: None,
        }
    }

    /// Polls when it is time, and tells the control plane what the VMs enforce when that has changed.
    pub(crate) fn tick(&mut self, env: &Env<'_>) {
        match self.state {
            State::Resting { until } if until <= env.now => self.poll(env),
            State::Polling { .. } => self.report(env),
            _ => {}
        }
        self.clear_old_slot(env);
    }

    /// Some VM enforces another version now: the control plane is told when all do, else at the next tick.
    pub(crate) fn enforced(&mut self, env: &Env<'_>) {
        if env.peers.all_enforce(self.head().map_or(0, |head| head.version)) {
            self.tick(env);
        }
    }

    /// A call was answered. `false` if it is not the leader's.
    pub(crate) fn answered(
        &mut self,
        env: &Env<'_>,
        token: Token,
        answer: Option<Answer>,
    ) -> Option<Progress> {
        if self.report == Some(token) {
            self.report = None;
            if answer.is_none_or(|answer| answer.status != 204) {
                // Told again at the next tick.
                self.told.clear();
            }
            return Some(Progress::default());
        }
        let resting = State::Resting { until: env.now };
        match std::mem::replace(&mut self.state, resting) {
            State::Polling { token: expected } if expected == token => Some(self.polled(env, answer)),
            State::Fetching { token: expected, image } if expected == token => {
                Some(self.fetched(env, image, answer))
            }
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Does the next piece of work that was cut.
    pub(crate) fn step(&mut self, env: &Env<'_>) -> Progress {
        let resting = State::Resting { until: env.now };
        match std::mem::replace(&mut self.state, resting) {
            State::Storing { image, pages } => self.store(env, image, pages),
            State::Applying { delta } => self.apply(env, delta),
            other => {
                self.state = other;
                Progress::default()
            }
        }
    }

    fn head(&self) -> Option<Head> {
        shared::get_as::<Head>(&self.names.head()).value
    }

    fn poll(&mut self, env: &Env<'_>) {
        let head = self.head();
        let version = head.map_or(0, |head| head.version);
        let installation = head.filter(|head| head.version != 0).and_then(|head| {
            let bytes = shared::get(&self.names.manifest(head.slot)).value?;
            Some(Manifest::decode(&bytes).ok()?.installation)
        });
        // An age limit needs confirmations well within it.
        let wait = env.config.max_snapshot_age.map_or(POLL_WAIT, |age| POLL_WAIT.min(age / 3));
        let request = PollRequest {
            gateway: env.gateway.to_owned(),
            incarnation: env.peers.process(),
            filter_version: env!("CARGO_PKG_VERSION").to_owned(),
            snapshot_format: snapshot::FORMAT,
            installation,
            version,
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            vms: env.peers.statuses(),
        };
        let Ok(body) = serde_json::to_vec(&request) else {
            return;
        };
        match control_plane::post(
            env.config,
            "/gateway/v1/poll",
            "application/json",
            &body,
            wait + POLL_GRACE,
        ) {
            Ok(token) => {
                self.told = request.vms;
                self.state = State::Polling { token };
            }
            Err(error) => self.not_sent(env, error),
        }
    }

    fn report(&mut self, env: &Env<'_>) {
        let vms = env.peers.statuses();
        if vms == self.told || self.report.is_some() {
            return;
        }
        let report =
            EnforcedReport { gateway: env.gateway.to_owned(), incarnation: env.peers.process(), vms };
        let Ok(body) = serde_json::to_vec(&report) else {
            return;
        };
        let sent =
            control_plane::post(env.config, "/gateway/v1/enforced", "application/json", &body, CALL_TIMEOUT);
        if let Ok(token) = sent {
            self.report = Some(token);
            self.told = report.vms;
        }
    }

    fn polled(&mut self, env: &Env<'_>, answer: Option<Answer>) -> Progress {
        let Some(answer) = answer else {
            return self.fail(env, "the control plane did not answer", None);
        };
        let result = match (answer.status, answer.media_type.as_slice()) {
            (204, _) => {
                self.succeed(env);
                self.state = State::Resting { until: env.now };
                return Progress::default();
            }
            (200, media) if media == DELTA_MEDIA_TYPE.as_bytes() => self.begin_delta(&answer.body),
            (200, media) if media == MANIFEST_MEDIA_TYPE.as_bytes() => self.begin_image(env, &answer.body),
            (200, _) => Err(SnapshotError::Foreign),
            (status, _) => return self.refused(env, status),
        };
        match result {
            Ok(()) => self.step(env),
            Err(error) => self.reject(env, error),
        }
    }

    fn begin_delta(&mut self, body: &[u8]) -> Result<(), SnapshotError> {
        let delta = Delta::decode(body)?;
        let head = self.head().filter(|head| head.version == delta.from).ok_or(SnapshotError::Mismatch)?;
        let bytes = shared::get(&self.names.manifest(head.slot)).value.ok_or(SnapshotError::Mismatch)?;
        let manifest = Manifest::decode(&bytes)?;
        if manifest.installation != delta.installation {
            return Err(SnapshotError::OtherInstallation);
        }
        let left: VecDeque<(u32, Vec<Change>)> = delta
            .by_page(&manifest)
            .into_iter()
            .map(|(page, changes)| (page, changes.into_iter().cloned().collect()))
            .collect();
        let touched = left.iter().map(|(page, _)| *page).collect();
        self.state = State::Applying { delta: Incremental { manifest, head, delta, left, touched } };
        Ok(())
    }

    fn apply(&mut self, env: &Env<'_>, mut work: Incremental) -> Progress {
        for _ in 0..PAGES_PER_STEP {
            let Some((index, changes)) = work.left.pop_front() else {
                break;
            };
            if let Err(error) = self.apply_page(&work, index, &changes) {
                return self.reject(env, error);
            }
        }
        if !work.left.is_empty() {
            self.state = State::Applying { delta: work };
            return Progress { more: true, ..Progress::default() };
        }
        let (from, to) = (work.delta.from, work.delta.to);
        let mut next = Head { version: to, confirmed: env.now.0, ..work.head };
        if let Some(policy) = work.delta.policy {
            let manifest = Manifest { version: to, policy, ..work.manifest };
            shared::put(&self.names.manifest(work.head.slot), &manifest.encode());
            next.manifest_version = to;
        }
        self.take_over(env, from, next, Some(work.touched))
    }

    fn apply_page(&self, work: &Incremental, index: u32, changes: &[Change]) -> Result<(), SnapshotError> {
        let name = self.names.page(work.head.slot, index);
        loop {
            let mut read = shared::get(&name);
            let bytes = read.value.take().ok_or(SnapshotError::Mismatch)?;
            let page = Page::parse(bytes, work.manifest.page_id(index))?;
            // A page that is ahead was written by another leader: it has these changes and later ones.
            if page.version() >= work.delta.to {
                return Ok(());
            }
            if shared::swap(&name, &read, page.apply(work.delta.to, changes)?.bytes()).is_ok() {
                return Ok(());
            }
        }
    }

    fn begin_image(&mut self, env: &Env<'_>, body: &[u8]) -> Result<(), SnapshotError> {
        let manifest = Manifest::decode(body)?;
        let mut slot = 0;
        if let Some(head) = self.head().filter(|head| head.version != 0) {
            let held = shared::get(&self.names.manifest(head.slot)).value;
            let held = held.and_then(|bytes| Manifest::decode(&bytes).ok());
            if held.is_some_and(|held| held.installation != manifest.installation) {
                return Err(SnapshotError::OtherInstallation);
            }
            if manifest.version <= head.version {
                return Err(SnapshotError::Mismatch);
            }
            slot = 1 - head.slot.min(1);
        }
        self.clearing = None;
        self.fetch(env, Incoming { manifest, slot, next_chunk: 0, next_page: 0 });
        Ok(())
    }

    fn fetch(&mut self, env: &Env<'_>, image: Incoming) {
        let path = format!("/gateway/v1/images/{}/chunks/{}", image.manifest.version, image.next_chunk);
        match control_plane::get(env.config, &path, CALL_TIMEOUT) {
            Ok(token) => self.state = State::Fetching { token, image },
            Err(error) => self.not_sent(env, error),
        }
    }

    fn fetched(&mut self, env: &Env<'_>, mut image: Incoming, answer: Option<Answer>) -> Progress {
        let Some(answer) = answer else {
            return self.fail(env, "the control plane did not send the image", None);
        };
        if answer.status != 200 {
            return self.refused(env, answer.status);
        }
        match snapshot::split_chunk(&answer.body) {
            Ok(pages) if !pages.is_empty() => {
                image.next_chunk += 1;
                let pages = pages.into_iter().map(<[u8]>::to_vec).collect();
                self.store(env, image, pages)
            }
            Ok(_) => self.reject(env, SnapshotError::Damaged),
            Err(error) => self.reject(env, error),
        }
    }

    fn store(&mut self, env: &Env<'_>, mut image: Incoming, mut pages: VecDeque<Vec<u8>>) -> Progress {
        for _ in 0..PAGES_PER_STEP {
            let Some(bytes) = pages.pop_front() else { break };
            let name = self.names.page(image.slot, image.next_page);
            let read = shared::get(&name);
            let newer = read.value.as_deref().and_then(snapshot::stated_version);
            let page = match Page::parse(bytes, image.manifest.page_id(image.next_page)) {
                Ok(page) if page.version() == image.manifest.version => page,
                Ok(_) => return self.reject(env, SnapshotError::Mismatch),
                Err(error) => return self.reject(env, error),
            };
            // Another leader is further: this one was replaced and does not know it yet.
            if newer.is_some_and(|version| version > image.manifest.version)
                || shared::swap(&name, &read, page.bytes()).is_err()
            {
                return self.reject(env, SnapshotError::Mismatch);
            }
            image.next_page += 1;
        }
        if !pages.is_empty() {
            self.state = State::Storing { image, pages };
            return Progress { more: true, ..Progress::default() };
        }
        if image.next_page < image.manifest.page_count() {
            self.fetch(env, image);
            return Progress::default();
        }
        shared::put(&self.names.manifest(image.slot), &image.manifest.encode());
        let version = image.manifest.version;
        let from = self.head().map_or(0, |head| head.version);
        let next = Head {
            process: env.peers.process(),
            slot: image.slot,
            version,
            manifest_version: version,
            confirmed: env.now.0,
        };
        self.take_over(env, from, next, None)
    }

    /// Puts a version in force.
    fn take_over(&mut self, env: &Env<'_>, from: u64, next: Head, pages: Option<Vec<u32>>) -> Progress {
        let read = shared::get_as::<Head>(&self.names.head());
        let expected = read.value.is_none_or(|head| head.version == from);
        if !expected || shared::swap_as(&self.names.head(), &read, &next).is_err() {
            return self.reject(env, SnapshotError::Mismatch);
        }
        if pages.is_none() && from != 0 {
            self.clearing = Some((1 - next.slot.min(1), u32::from(u16::MAX) + 1));
        }
        self.succeed(env);
        env.metrics.snapshot_version(next.version);
        // The next poll waits for the other VMs, or for the next tick: it carries what they enforce.
        self.state = State::Resting { until: env.now };
        Progress { changed: Some(Changed { from, pages }), more: false }
    }

    /// Gives back the memory of the slot that is no longer in use, once no VM reads it any more.
    fn clear_old_slot(&mut self, env: &Env<'_>) {
        let Some((slot, left)) = self.clearing else { return };
        if !env.peers.all_enforce(self.head().map_or(u64::MAX, |head| head.version)) {
            return;
        }
        let step = left.min(256);
        for index in left - step..left {
            let name = self.names.page(slot, index);
            if shared::get(&name).value.is_some() {
                shared::put(&name, CLEARED);
            }
        }
        self.clearing = (left > step).then_some((slot, left - step));
    }

    fn succeed(&mut self, env: &Env<'_>) {
        self.pause = FIRST_PAUSE;
        shared::update(&self.names.head(), |head: Option<Head>| {
            head.map(|head| Head { confirmed: head.confirmed.max(env.now.0), ..head })
        });
        if self.problem.take().is_some() {
            host::log(LogLevel::Warn, "the control plane answers again");
        }
    }

    fn not_sent(&mut self, env: &Env<'_>, error: NotSent) {
        match error {
            NotSent::UnknownCluster => {
                let problem = format!("Envoy has no cluster {:?}: check \"cluster\"", env.config.cluster);
                self.fail(env, &problem, Some(REFUSED_PAUSE));
            }
            NotSent::Unreachable => {
                self.fail(env, "no host of the control plane's cluster is reachable", None);
            }
        }
    }

    fn refused(&mut self, env: &Env<'_>, status: u16) -> Progress {
        match status {
            401 | 403 => {
                let problem = format!(
                    "the control plane refused the gateway token ({status}): check \"gateway_token\""
                );
                self.fail(env, &problem, Some(REFUSED_PAUSE))
            }
            // The image has been replaced while it was fetched, or the control plane is not there (Envoy's own 503).
            410 | 503 => self.fail(env, &format!("the control plane is unavailable ({status})"), None),
            _ => self.fail(env, &format!("the control plane answered {status}"), Some(REFUSED_PAUSE)),
        }
    }

    fn reject(&mut self, env: &Env<'_>, error: SnapshotError) -> Progress {
        env.metrics.snapshot_refused();
        let problem = format!("a snapshot was refused and the last good one stays: {error}");
        self.fail(env, &problem, Some(REFUSED_PAUSE))
    }

    fn fail(&mut self, env: &Env<'_>, problem: &str, pause: Option<Duration>) -> Progress {
        if self.problem.as_deref() != Some(problem) {
            host::log(LogLevel::Error, problem);
            self.problem = Some(problem.to_owned());
        }
        let pause = pause.unwrap_or_else(|| {
            let pause = self.pause;
            self.pause = (pause * 2).min(LONGEST_PAUSE);
            pause
        });
        let nanos = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
        self.state = State::Resting { until: MonotonicNanos(env.now.0.saturating_add(nanos)) };
        Progress::default()
    }
}
