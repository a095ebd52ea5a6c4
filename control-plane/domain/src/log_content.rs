//! The kinds of content of the request log, and what each keeps when the log reaches its maximum size.
//!
//! Anyone can send any number of calls that no limit of a key bounds. So that these do not push the records of allowed calls
//! out of the log, each kind has a share of the log that the others cannot take; what a kind leaves unused, others may use.

use crate::audit::GapCause;

/// A kind of content of the request log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogContent {
    /// Records of calls without a known key.
    WithoutKey,
    /// Records of refused calls with a key.
    Refused,
    /// Records of allowed calls with a key.
    Allowed,
    /// Arguments of calls.
    Payloads,
}

/// A word that names no kind of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a kind of content of the request log")]
pub struct InvalidContent;

// === impl LogContent ===

impl LogContent {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::WithoutKey, Self::Refused, Self::Allowed, Self::Payloads];

    /// The kind as the database writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WithoutKey => "without_key",
            Self::Refused => "refused",
            Self::Allowed => "allowed",
            Self::Payloads => "payloads",
        }
    }

    /// The share of the log that it keeps, in percent.
    pub const fn share(self) -> u64 {
        match self {
            Self::WithoutKey | Self::Refused => 15,
            Self::Allowed => 45,
            Self::Payloads => 25,
        }
    }

    /// The cause of the gap that purging it leaves; `None` if it leaves none, because the records of the calls remain.
    pub const fn gap_cause(self) -> Option<GapCause> {
        match self {
            Self::WithoutKey => Some(GapCause::PurgedWithoutKey),
            Self::Refused => Some(GapCause::PurgedRefused),
            Self::Allowed => Some(GapCause::PurgedAllowed),
            Self::Payloads => None,
        }
    }

    /// The kind to purge from: the one that exceeds its share the most. `None` if there is nothing.
    pub fn largest(usage: &[(Self, u64)]) -> Option<Self> {
        let excess = |(content, bytes): &(Self, u64)| u128::from(*bytes) * 100 / u128::from(content.share());
        usage
            .iter()
            .filter(|(_, bytes)| *bytes > 0)
            .max_by_key(|used| excess(used))
            .map(|(content, _)| *content)
    }
}

impl std::str::FromStr for LogContent {
    type Err = InvalidContent;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|content| content.as_str() == text).ok_or(InvalidContent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_that_exceeds_its_share_the_most_is_purged() {
        use LogContent::{Allowed, Payloads, Refused, WithoutKey};
        for (usage, expected) in [
            (&[][..], None),
            (&[(Allowed, 0)], None),
            (&[(Allowed, 9)], Some(Allowed)),
            (&[(WithoutKey, 20), (Allowed, 50)], Some(WithoutKey)),
            (&[(WithoutKey, 10), (Allowed, 50)], Some(Allowed)),
            (&[(Refused, 16), (WithoutKey, 14), (Allowed, 44), (Payloads, 26)], Some(Refused)),
            (&[(Payloads, 60), (Allowed, 60)], Some(Payloads)),
        ] {
            assert_eq!(LogContent::largest(usage), expected, "{usage:?}");
        }
        assert_eq!(LogContent::ALL.iter().map(|content| content.share()).sum::<u64>(), 100);
    }
}
