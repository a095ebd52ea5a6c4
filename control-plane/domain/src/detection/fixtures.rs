//! Synthetic traffic of several kinds of keys, with planted anomalies. The same seed yields the same traffic.

use super::{ErrorClass, KeyHour};

/// SplitMix64 (Steele, Lea and Flood, 2014): small, and good enough for generating traffic.
pub(super) struct Random(u64);

/// How a key is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A service that runs day and night.
    Steady,
    /// People at work: on weekdays, in the daytime.
    Office,
    /// A batch at two in the morning, sometimes an hour early or late.
    Nightly,
    /// A batch on Tuesdays.
    Weekly,
    /// Little traffic, with bursts at any time.
    Bursty,
    /// A mobile app, on networks that change all day.
    Roaming,
    /// A service that has twice the calls at the end of the month.
    Growing,
    /// A person who uses the key occasionally.
    Seldom,
    /// A service that occasionally moves to another network.
    Moving,
    /// A key created in the last week.
    New,
}

/// An anomaly planted into one or three hours of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Plant {
    /// This many times the busiest nearby hour of the day, and at least 150 calls.
    Spike(u64),
    /// This many calls from a new network.
    Stranger(u64),
    /// This many additional responses of a class.
    Errors(ErrorClass, u64),
    /// Calls from this many new networks within ten minutes.
    Places(u64),
}

/// A generated hour.
#[derive(Clone, Debug, Default)]
pub(super) struct MadeHour {
    pub(super) counts: KeyHour,
    /// The networks of the calls.
    pub(super) networks: Vec<u64>,
}

const CLASSES: usize = ErrorClass::ALL.len();

// === impl Random ===

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        (self.unit() * end as f64) as u64
    }

    fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Around 1, so that the logarithm varies by `spread`.
    fn factor(&mut self, spread: f64) -> f64 {
        (self.normal() * spread - spread * spread / 2.0).exp()
    }

    /// A count of independent events (Poisson).
    fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 60.0 {
            return (mean + self.normal() * mean.sqrt()).round().max(0.0) as u64;
        }
        let (mut product, mut count, end) = (self.unit(), 0, (-mean).exp());
        while product > end {
            product *= self.unit();
            count += 1;
        }
        count
    }

    /// A count that varies more: its mean varies by `spread`.
    fn count(&mut self, mean: f64, spread: f64) -> u64 {
        let mean = mean * self.factor(spread);
        self.poisson(mean)
    }
}

// === impl Kind ===

impl Kind {
    pub(super) const ALL: [Self; 10] = [
        Self::Steady,
        Self::Office,
        Self::Nightly,
        Self::Weekly,
        Self::Bursty,
        Self::Roaming,
        Self::Growing,
        Self::Seldom,
        Self::Moving,
        Self::New,
    ];

    /// The traffic of a key of this kind over `days` days, without planted anomalies.
    pub(super) fn make(self, random: &mut Random, start: u64, days: u64) -> Vec<MadeHour> {
        let scale = 10_f64.powf(0.7 + 2.3 * random.unit());
        let spread = 0.15 + 0.35 * random.unit();
        let error_share = [0.0, 0.002, 0.01, 0.04][random.below(4) as usize];
        let mut day_factor = 1.0;
        let mut session = 0_u64;
        let mut home = random.below(1 << 40);
        let mut hours = Vec::new();
        let begins = if self == Self::New { days.saturating_sub(6) * 24 } else { 0 };
        for hour in 0..days * 24 {
            let (of_day, day) = (hour % 24, hour / 24);
            if of_day == 0 {
                day_factor = random.factor(0.2);
                // A provider that occasionally assigns a new address.
                if random.chance(match self {
                    Self::Moving => 0.2,
                    Self::Steady | Self::Growing => 0.004,
                    _ => 0.01,
                }) {
                    home = random.below(1 << 40);
                }
            }
            let is_weekend = day % 7 >= 5;
            let level = match self {
                Self::Steady | Self::Moving | Self::New => 1.0,
                Self::Growing => 1.0 + day as f64 / days as f64,
                Self::Office if is_weekend => 0.02,
                Self::Office => [0.02, 1.0][usize::from((8..18).contains(&of_day))],
                Self::Nightly => {
                    let begins = 2 + u64::from(random.chance(0.1));
                    [0.02, 8.0][usize::from(of_day == begins)]
                }
                Self::Weekly => [0.02, 10.0][usize::from(day % 7 == 1 && (4..6).contains(&of_day))],
                Self::Bursty => {
                    if random.chance(0.015) {
                        4.0 + 16.0 * random.unit()
                    } else {
                        0.3
                    }
                }
                Self::Roaming => {
                    0.4 + 0.6 * (1.0 + ((of_day as f64 - 14.0) / 24.0 * std::f64::consts::TAU).cos()) / 2.0
                }
                Self::Seldom => {
                    session = if session == 0 && random.chance(0.01) { 2 } else { session.saturating_sub(1) };
                    if session > 0 { 0.5 } else { 0.0 }
                }
            };
            let calls = if hour < begins { 0 } else { random.count(scale * level * day_factor, spread) };
            hours.push(self.hour(random, start + hour, calls, error_share, home));
        }
        hours
    }

    fn hour(self, random: &mut Random, hour: u64, calls: u64, error_share: f64, home: u64) -> MadeHour {
        let mut errors = [0; CLASSES];
        for (place, share) in [(1, 0.1), (2, 0.7), (4, 0.2)] {
            // The share also varies by the hour, as with an outdated list of IDs.
            errors[place] = random.count(calls as f64 * error_share * share, 0.6).min(calls / 3);
        }
        let mut networks = Vec::new();
        let mut places = u64::from(calls > 0);
        if self == Self::Roaming {
            let people = (calls / 5).clamp(1, 40);
            for _ in 0..people.min(calls) {
                // Most stay on known networks, from a pool that belongs to this key.
                let known = random.chance(0.98);
                networks.push(if known {
                    home % 1_000_003 + random.below(60)
                } else {
                    random.below(1 << 40)
                });
            }
            networks.sort_unstable();
            networks.dedup();
            places = random.count(networks.len() as f64 * 0.4, 0.2).min(networks.len() as u64);
        } else if calls > 0 {
            networks.push(home);
            // Two egress networks, one of which is rarely used.
            if random.chance(0.05) {
                networks.push(home / 2);
                places = 2;
            }
        }
        MadeHour { counts: KeyHour { hour, calls, errors, places }, networks }
    }
}

// === impl Plant ===

impl Plant {
    /// Plants the anomaly into the hours from `at`, and returns how many hours it spans.
    pub(super) fn into(self, random: &mut Random, hours: &mut [MadeHour], at: usize) -> usize {
        match self {
            Self::Spike(factor) => {
                // The usual value at this hour, from the week before.
                let around = (1..=7).flat_map(|day| at - 24 * day - 1..=at - 24 * day + 1);
                let usual =
                    around.filter(|hour| *hour < hours.len()).map(|hour| hours[hour].counts.calls).max();
                let calls = (usual.unwrap_or(0) * factor).max(150);
                hours[at].counts.calls += random.count(calls as f64, 0.1);
                if hours[at].networks.is_empty() {
                    // Not from a new network, so that only the volume reveals it.
                    let known = hours[..at].iter().rev().find_map(|hour| hour.networks.first().copied());
                    hours[at].networks.extend(known);
                    hours[at].counts.places = 1;
                }
                1
            }
            Self::Stranger(calls) => {
                hours[at].counts.calls += calls;
                hours[at].networks.push(1 << 50 | random.below(1 << 40));
                hours[at].counts.places += 1;
                1
            }
            Self::Errors(class, errors) => {
                hours[at].counts.calls += errors;
                hours[at].counts.errors[class as usize] += errors;
                1
            }
            Self::Places(places) => {
                hours[at].counts.calls += places * 3;
                for _ in 0..places {
                    hours[at].networks.push(1 << 50 | random.below(1 << 40));
                }
                hours[at].counts.places += places;
                1
            }
        }
    }
}
