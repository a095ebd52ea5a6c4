//! The gateway names that a gateway token is valid for.

use std::fmt;
use std::str::FromStr;

use omniflow_policy::gateway::is_gateway_name;
use serde::{Deserialize, Serialize};

/// The maximum number of patterns of a token.
pub const MAX_GATEWAY_PATTERNS: usize = 100;

/// The name of a gateway, or a prefix of names followed by `*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct GatewayPattern(String);

/// The error for a text that is not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a gateway name must be 1 to 128 printable ASCII characters without spaces, with '*' only at the end"
)]
pub struct InvalidGatewayPattern;

// === impl GatewayPattern ===

impl GatewayPattern {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a gateway's name matches.
    pub fn matches(&self, gateway: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => gateway.starts_with(start),
            None => self.0 == gateway,
        }
    }

    /// Whether this is the name of exactly this gateway.
    pub fn is_exactly(&self, gateway: &str) -> bool {
        !self.0.ends_with('*') && self.0 == gateway
    }
}

impl fmt::Display for GatewayPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for GatewayPattern {
    type Err = InvalidGatewayPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let start = text.strip_suffix('*').unwrap_or(text);
        if is_gateway_name(text) && !start.contains('*') {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidGatewayPattern)
        }
    }
}

impl TryFrom<String> for GatewayPattern {
    type Error = InvalidGatewayPattern;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_matches_any_end_of_a_name() {
        let matches = |pattern: &str, name: &str| pattern.parse::<GatewayPattern>().unwrap().matches(name);
        assert!(matches("edge-1", "edge-1") && !matches("edge-1", "edge-10") && !matches("edge-1", "edge"));
        assert!(matches("edge-*", "edge-") && matches("edge-*", "edge-7f/a") && !matches("edge-*", "edg"));
        assert!(matches("*", "edge"));
        for invalid in ["", "a b", "a*b", "**", "\u{e9}", &"a".repeat(129)] {
            assert_eq!(invalid.parse::<GatewayPattern>(), Err(InvalidGatewayPattern), "{invalid}");
        }
    }
}
