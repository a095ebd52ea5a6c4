//! Anomalies in the use of a key: each key is judged by its own last four weeks. No I/O, no clock, no randomness.
//!
//! Every kind has one rule. An hour has a number, such as how many calls there were for one that is usual, and
//! so have all hours before it. It is an anomaly if it is large in itself and at least twice what the key's history has in
//! its most unusual hour but one (of volume: in its most unusual hour). A key that surprises often has to surprise more;
//! nothing is assumed of how calls are distributed. docs/concepts/anomalies.md describes the method and its error rates.

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

use crate::anomaly::{AnomalyKind, Detection, Evidence, Network};
use crate::time::DAY_MS;
pub use crate::time::HOUR_MS;

/// Milliseconds of a slot, the time in which places are counted.
pub const SLOT_MS: u64 = 600_000;
/// How far a history reaches back, in hours: four weeks, so that each hour of the week is there four times.
pub const HISTORY_HOURS: u64 = 28 * 24;
/// The least history by which anything is judged, in hours: a week, for workdays and weekends differ.
pub const MIN_HISTORY_HOURS: u64 = 7 * 24;
/// Hours before the present one that are no history yet: what began a day ago and continues is still the same anomaly, and
/// must not make itself usual.
const RECENT_HOURS: u64 = 23;
/// How many times the most unusual hour but one of its history an hour has to be.
const MARGIN: f64 = 2.0;
/// For how long after its last call an anomaly continues, in milliseconds: what comes back the next day is reported once.
pub const QUIET_MS: u64 = DAY_MS;

/// A kind of 4xx answer.
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
    /// The rest.
    Other,
}

/// What a key did in an hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyHour {
    /// Whole hours since 1970.
    pub hour: u64,
    /// Its calls.
    pub calls: u64,
    /// Those of them that were answered so, by [`ErrorClass`].
    pub errors: [u64; ErrorClass::ALL.len()],
    /// The most networks in one slot of it.
    pub places: u64,
}

/// What a key did before an hour.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The hour of the first call that is known.
    pub since: u64,
    /// The hours with calls, of the last [`HISTORY_HOURS`].
    pub hours: Vec<KeyHour>,
    /// For days before the last 24 hours, in any order: how many networks the key was used from for the first time. Days
    /// without any may be left out.
    pub new_networks: Vec<u64>,
}

/// The hour that is evaluated, as far as it has come.
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
    /// What was counted.
    pub counts: KeyHour,
    /// Networks from which the key was used for the first time in this hour.
    pub new_networks: Vec<Network>,
    /// How many networks it was used from for the first time in the 24 hours up to the end of this hour.
    pub new_in_a_day: u64,
}

/// A number that is too large, and what it was held against.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Excess {
    observed: u64,
    expected: f64,
    bound: u64,
}

/// Whether an hour is worth the reading of a history: nothing below these numbers is an anomaly, whatever came before.
pub fn is_worth_evaluating(present: &Present) -> bool {
    let KeyHour { calls, errors, places, .. } = present.counts;
    calls >= volume::MIN_CALLS
        || errors.iter().any(|errors| *errors >= errors::MIN_ERRORS)
        || places >= places::MIN_PLACES
        || !present.new_networks.is_empty()
}

/// Anomalies of an hour; none if less than a week is known of the key.
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

/// The largest value but one; the least that there can be, `floor`, where there are not two.
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
    /// What counts as history for an hour.
    fn complete_before(&self, hour: u64) -> Self {
        let is_complete = |one: &&KeyHour| one.hour < hour.saturating_sub(RECENT_HOURS);
        Self { hours: self.hours.iter().filter(is_complete).copied().collect(), ..self.clone() }
    }
}

// === impl ErrorClass ===

impl ErrorClass {
    /// All classes, in the order in which hours count them.
    pub const ALL: [Self; 5] =
        [Self::Unauthorized, Self::Forbidden, Self::NotFound, Self::RateLimited, Self::Other];

    /// The class of a status; `None` if it is no 4xx.
    pub fn of(status: u16) -> Option<Self> {
        match status {
            401 => Some(Self::Unauthorized),
            403 => Some(Self::Forbidden),
            404 => Some(Self::NotFound),
            429 => Some(Self::RateLimited),
            400..=499 => Some(Self::Other),
            _ => None,
        }
    }

    /// The status as the audit log is filtered by it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthorized => "401",
            Self::Forbidden => "403",
            Self::NotFound => "404",
            Self::RateLimited => "429",
            Self::Other => "4xx",
        }
    }
}

// === impl KeyHour ===

impl KeyHour {
    fn errors_of(&self, class: ErrorClass) -> u64 {
        self.errors.get(class as usize).copied().unwrap_or_default()
    }
}
