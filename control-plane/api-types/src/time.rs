//! Instants in JSON.

use std::borrow::Cow;
use std::fmt;

use omniflow_domain::time::{format_time, parse_time};
use omniflow_policy::time::UnixMillis;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant in JSON: RFC 3339, UTC, milliseconds, such as `2026-03-01T12:00:00.000Z`. Reading accepts any offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub UnixMillis);

impl fmt::Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&format_time(self.0))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_time(self.0))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        parse_time(&text).map(Self).ok_or_else(|| Error::custom("not an RFC 3339 time since 1970"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_survives_a_round_trip() {
        let time = Time(UnixMillis(1_772_366_400_007));
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(json, "\"2026-03-01T12:00:00.007Z\"");
        assert_eq!(serde_json::from_str::<Time>(&json).unwrap(), time);
        assert_eq!(time.to_string(), "2026-03-01T12:00:00.007Z");
        for wrong in ["null", "1", "\"yesterday\"", "\"1969-12-31T23:59:59Z\""] {
            assert!(serde_json::from_str::<Time>(wrong).is_err(), "{wrong}");
        }
    }
}
