//! Selection of calls in the request log.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use ipnet::IpNet;
use omniflow_policy::denial::Outcome;
use omniflow_policy::key::Environment;
use omniflow_policy::time::UnixMillis;

use crate::audit::Decision;
use crate::key::KeyReference;

/// A filter of calls. The default selects all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only calls of this key, by identifier or by its name at the time of the call.
    pub key: Option<KeyReference>,
    /// Only calls with keys in this environment.
    pub environment: Option<Environment>,
    /// Only calls to this route template.
    pub endpoint: Option<String>,
    /// Only calls with this method.
    pub method: Option<String>,
    /// Only calls with a status in this range.
    pub status: Option<RangeInclusive<u16>>,
    /// Only gRPC calls with a status in this range.
    pub grpc_status: Option<RangeInclusive<u32>>,
    /// Only calls with this decision.
    pub decision: Option<Decision>,
    /// Only calls with this outcome.
    pub reason: Option<Outcome>,
    /// Only calls from this network.
    pub network: Option<IpNet>,
    /// Only calls that began at or after this instant.
    pub from: Option<UnixMillis>,
    /// Only calls that began before this instant.
    pub to: Option<UnixMillis>,
}

/// A position in the log: time and number of the last call that was read. Its text is the cursor of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditPosition {
    /// The call's time.
    pub time: UnixMillis,
    /// The call's number.
    pub id: i64,
}

/// The text is not a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidPosition;

// === impl AuditPosition ===

impl fmt::Display for AuditPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.time.0, self.id)
    }
}

impl FromStr for AuditPosition {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (time, id) = text.split_once('-').ok_or(InvalidPosition)?;
        let time = time.parse().map_err(|_| InvalidPosition)?;
        let id = id.parse().map_err(|_| InvalidPosition)?;
        Ok(Self { time: UnixMillis(time), id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_they_are_written() {
        let position = AuditPosition { time: UnixMillis(1_800_000_000_000), id: 7 };
        assert_eq!(position.to_string(), "1800000000000-7");
        assert_eq!(position.to_string().parse(), Ok(position));
        for wrong in ["", "7", "x-7", "7-", "-7-x"] {
            assert_eq!(wrong.parse::<AuditPosition>(), Err(InvalidPosition), "{wrong}");
        }
    }
}
