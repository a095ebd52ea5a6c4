//! Why the client did not receive a whole response.

use serde::{Deserialize, Serialize};

/// Why a call ended before its response was complete. The order is part of the format: append, never reorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Interruption {
    /// The upstream reset the stream, or closed its connection.
    UpstreamReset,
    /// A timeout at the gateway ended the stream.
    Timeout,
    /// The client reset the stream, or closed its connection.
    ClientDisconnected,
    /// The gateway did not report a reason.
    Unknown,
    /// The filter ended the stream, because the key was no longer valid.
    KeyNoLongerValid,
}

/// Bits of Envoy's `response.flags` (envoy/stream_info/stream_info.h, `CoreResponseFlag`).
const UPSTREAM_REQUEST_TIMEOUT: u64 = 1 << 2;
const UPSTREAM_REMOTE_RESET: u64 = 1 << 4;
const UPSTREAM_CONNECTION_TERMINATION: u64 = 1 << 6;
const DOWNSTREAM_CONNECTION_TERMINATION: u64 = 1 << 14;
const STREAM_IDLE_TIMEOUT: u64 = 1 << 16;
const DOWNSTREAM_PROTOCOL_ERROR: u64 = 1 << 18;
const UPSTREAM_MAX_STREAM_DURATION_REACHED: u64 = 1 << 19;
const DURATION_TIMEOUT: u64 = 1 << 22;
const UPSTREAM_PROTOCOL_ERROR: u64 = 1 << 23;
const DOWNSTREAM_REMOTE_RESET: u64 = 1 << 28;

// === impl Interruption ===

impl Interruption {
    /// All kinds.
    pub const ALL: [Self; 5] =
        [Self::UpstreamReset, Self::Timeout, Self::ClientDisconnected, Self::Unknown, Self::KeyNoLongerValid];

    /// The kind that Envoy's response flags of an incomplete response indicate.
    pub const fn from_flags(flags: u64) -> Self {
        const TIMEOUTS: u64 = UPSTREAM_REQUEST_TIMEOUT
            | STREAM_IDLE_TIMEOUT
            | UPSTREAM_MAX_STREAM_DURATION_REACHED
            | DURATION_TIMEOUT;
        const UPSTREAM: u64 =
            UPSTREAM_REMOTE_RESET | UPSTREAM_CONNECTION_TERMINATION | UPSTREAM_PROTOCOL_ERROR;
        const CLIENT: u64 =
            DOWNSTREAM_CONNECTION_TERMINATION | DOWNSTREAM_PROTOCOL_ERROR | DOWNSTREAM_REMOTE_RESET;
        if flags & TIMEOUTS != 0 {
            Self::Timeout
        } else if flags & UPSTREAM != 0 {
            Self::UpstreamReset
        } else if flags & CLIENT != 0 {
            Self::ClientDisconnected
        } else {
            Self::Unknown
        }
    }

    /// The kind as in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpstreamReset => "upstream_reset",
            Self::Timeout => "timeout",
            Self::ClientDisconnected => "client_disconnected",
            Self::Unknown => "unknown",
            Self::KeyNoLongerValid => "key_no_longer_valid",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn flags_state_who_ended_the_stream() {
        assert_eq!(Interruption::from_flags(0), Interruption::Unknown);
        assert_eq!(Interruption::from_flags(UPSTREAM_REMOTE_RESET), Interruption::UpstreamReset);
        assert_eq!(
            Interruption::from_flags(DOWNSTREAM_CONNECTION_TERMINATION),
            Interruption::ClientDisconnected
        );
        let both = UPSTREAM_REQUEST_TIMEOUT | UPSTREAM_REMOTE_RESET;
        assert_eq!(Interruption::from_flags(both), Interruption::Timeout);
        for kind in Interruption::ALL {
            assert_eq!(Interruption::from_name(kind.as_str()), Some(kind));
        }
    }
}
