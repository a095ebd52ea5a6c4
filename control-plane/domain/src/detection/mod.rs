//! Anomalies in the usage of a key: each key is compared with its own last four weeks. No I/O, no clock, no randomness.
//!
//! Every kind has one rule. The rule assigns each hour a number, such as the ratio of calls to the usual number of
//! calls. An hour is an anomaly if its number is large in absolute terms and at least twice that of the second most
//! unusual hour in the key's history (for volume: the most unusual hour). So a key with irregular usage needs a larger
//! deviation, and no distribution of calls is assumed. docs/concepts/anomalies.md describes the method and its error
//! rates.

mod errors;
mod networks;
mod places;
mod volume;

#[cfg(test)]
mod evaluation;
#[cfg(test)]
mod fixtures;

use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use crate::anomaly::{AnomalyKind, Detection, Evidence, GRPC_ERROR, Network};
use crate::stats::AnswerClass;
use crate::time::DAY_MS;
pub use crate::time::HOUR_MS;

/// Length of a slot in milliseconds. Networks are counted per slot.
pub const SLOT_MS: u64 = 600_000;
/// Length of the history in hours: four weeks, so that it contains each hour of the week four times.
pub const HISTORY_HOURS: u64 = 28 * 24;
/// Minimum history for a comparison, in hours: a week, because workdays and weekends differ.
pub const MIN_HISTORY_HOURS: u64 = 7 * 24;
/// Most recent hours that do not count as history yet: an anomaly that began a day ago and continues must not become
/// the norm.
const RECENT_HOURS: u64 = 23;
/// Minimum ratio of an hour's number to that of the second most unusual hour in the history.
const MARGIN: f64 = 2.0;
/// How long after its last call an anomaly is still considered to continue, in milliseconds: one that recurs the next
/// day is reported only once.
pub const QUIET_MS: u64 = DAY_MS;

/// A kind of response that may be caused by the client: 4xx, or a failed gRPC call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorClass {
    /// 401, by the upstream.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 429.
    RateLimited,
    /// Any other 4xx.
    Other,
    /// A gRPC status other than 0, whatever it is: gateways and servers use the codes too differently to tell them apart.
    GrpcError,
}

/// The usage of a key in one hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyHour {
    /// Whole hours since 1970.
    pub hour: u64,
    /// Number of calls.
    pub calls: u64,
    /// Number of calls with such a response, by [`ErrorClass`].
    pub errors: [u64; ErrorClass::ALL.len()],
    /// The maximum number of networks in one slot.
    pub places: u64,
}

/// The usage of a key before an hour.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The hour of the first known call.
    pub since: u64,
    /// The hours with calls, of the last [`HISTORY_HOURS`].
    pub hours: Vec<KeyHour>,
    /// For each day before the last 24 hours, in any order: the number of networks from which the key was used for the
    /// first time. Days without new networks may be omitted.
    pub new_networks: Vec<u64>,
}

/// The evaluated hour, which may not be over yet.
#[derive(Clone, Debug)]
pub struct Present {
    /// The key.
    pub key_id: Uuid,
    /// Its name.
    pub key_name: String,
    /// When its first call began.
    pub first: UnixMillis,
    /// When its last call began.
    pub last: UnixMillis,
    /// The counts.
    pub counts: KeyHour,
    /// Networks from which the key was used for the first time in this hour.
    pub new_networks: Vec<Network>,
    /// Number of networks from which it was used for the first time in the 24 hours up to the end of this hour.
    pub new_in_a_day: u64,
}

/// A number that is too large, and the numbers that it was compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Excess {
    observed: u64,
    expected: f64,
    bound: u64,
}

/// Whether an hour can contain an anomaly, so that its history has to be read. Below these numbers there is none,
/// whatever the history.
pub fn is_worth_evaluating(present: &Present) -> bool {
    let KeyHour { calls, errors, places, .. } = present.counts;
    calls >= volume::MIN_CALLS
        || errors.iter().any(|errors| *errors >= errors::MIN_ERRORS)
        || places >= places::MIN_PLACES
        || !present.new_networks.is_empty()
}

/// The anomalies of an hour; none if the key has less than a week of history.
pub fn examine(history: &History, present: &Present) -> Vec<Detection> {
    let known = present.counts.hour.saturating_sub(history.since).min(HISTORY_HOURS);
    if known < MIN_HISTORY_HOURS {
        return Vec::new();
    }
    let counts = present.counts;
    let history = &history.complete_before(counts.hour);
    let detection = |kind, excess: Excess, status: Option<&str>, networks: &[Network]| Detection {
        kind,
        key_id: present.key_id,
        key_name: present.key_name.clone(),
        first: present.first,
        last: present.last,
        evidence: Evidence {
            observed: excess.observed,
            expected: Some((excess.expected * 10.0).round() / 10.0),
            bound: excess.bound,
            history_days: Some(known / 24),
            networks: networks.iter().copied().take(crate::anomaly::MAX_NAMED).collect(),
            status: status.map(str::to_owned),
            version: None,
            reason: None,
        },
    };
    let volume =
        volume::judge(history, counts).map(|excess| detection(AnomalyKind::VolumeSpike, excess, None, &[]));
    let networks = networks::judge(history, present)
        .map(|excess| detection(AnomalyKind::NewNetwork, excess, None, &present.new_networks));
    let places =
        places::judge(history, counts).map(|excess| detection(AnomalyKind::ManyPlaces, excess, None, &[]));
    let errors = ErrorClass::ALL.into_iter().filter_map(|class| {
        let excess = errors::judge(history, counts, class)?;
        Some(detection(AnomalyKind::ErrorRun, excess, Some(class.as_str()), &[]))
    });
    volume.into_iter().chain(networks).chain(places).chain(errors).collect()
}

/// The second largest value; `floor` if there are fewer than two.
fn second_largest(values: impl Iterator<Item = f64>, floor: f64) -> f64 {
    let (mut first, mut second) = (floor, floor);
    for value in values {
        if value > first {
            (first, second) = (value, first);
        } else if value > second {
            second = value;
        }
    }
    second
}

// === impl History ===

impl History {
    /// The part of the history that counts for an hour.
    fn complete_before(&self, hour: u64) -> Self {
        let is_complete = |one: &&KeyHour| one.hour < hour.saturating_sub(RECENT_HOURS);
        Self { hours: self.hours.iter().filter(is_complete).copied().collect(), ..self.clone() }
    }
}

// === impl ErrorClass ===

impl ErrorClass {
    /// All classes, in the order in which hours count them.
    pub const ALL: [Self; 6] = [
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::RateLimited,
        Self::Other,
        Self::GrpcError,
    ];

    /// The class of a call with these statuses; `None` if neither is such an error.
    pub fn of(status: u16, grpc_status: Option<u32>) -> Option<Self> {
        match (status, AnswerClass::of(status, grpc_status)) {
            (401, _) => Some(Self::Unauthorized),
            (403, _) => Some(Self::Forbidden),
            (404, _) => Some(Self::NotFound),
            (429, _) => Some(Self::RateLimited),
            (_, AnswerClass::ClientError) => Some(Self::Other),
            (_, AnswerClass::GrpcError) => Some(Self::GrpcError),
            _ => None,
        }
    }

    /// The status, as in the evidence of an anomaly.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthorized => "401",
            Self::Forbidden => "403",
            Self::NotFound => "404",
            Self::RateLimited => "429",
            Self::Other => "4xx",
            Self::GrpcError => GRPC_ERROR,
        }
    }
}

// === impl KeyHour ===

impl KeyHour {
    fn errors_of(&self, class: ErrorClass) -> u64 {
        self.errors.get(class as usize).copied().unwrap_or_default()
    }
}
