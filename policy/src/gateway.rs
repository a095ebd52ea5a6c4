//! The JSON messages that a gateway sends to the control plane.
//!
//! Identifiers of 64 random bits are sent as 16 hexadecimal digits, because many JSON parsers lose bits of
//! large numbers.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::UnixMillis;

/// Path where a gateway polls.
pub const POLL_PATH: &str = "/gateway/v1/poll";
/// Path where a gateway reports the versions that its VMs enforce.
pub const ENFORCED_PATH: &str = "/gateway/v1/enforced";
/// Path where a gateway delivers audit batches.
pub const AUDIT_PATH: &str = "/gateway/v1/audit";
/// Maximum size in bytes of one audit batch.
pub const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// Maximum time for which the control plane holds a poll, in milliseconds.
pub const MAX_POLL_WAIT_MS: u64 = 25_000;
/// Maximum number of VMs that one gateway reports: Envoy's workers and its main thread.
pub const MAX_VMS: usize = 1_024;

/// Path of one chunk of an image.
pub fn chunk_path(version: u64, chunk: u32) -> String {
    format!("/gateway/v1/images/{version}/chunks/{chunk}")
}

/// Whether a text is a valid gateway name: 1 to 128 printable ASCII characters without spaces.
pub fn is_gateway_name(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Media type of an encoded [`crate::snapshot::Delta`].
pub const DELTA_MEDIA_TYPE: &str = "application/vnd.omniflow.delta";
/// Media type of an encoded [`crate::snapshot::Manifest`].
pub const MANIFEST_MEDIA_TYPE: &str = "application/vnd.omniflow.manifest";
/// Header of the response that offers an image: the version that is published. The image itself may be of an earlier version that
/// other gateways are fetching. A gateway that starts serves requests only once it enforces this version.
pub const PUBLISHED_VERSION_HEADER: &str = "omniflow-published-version";
/// Media type of an encoded [`crate::audit::AuditBatch`].
pub const AUDIT_MEDIA_TYPE: &str = "application/vnd.omniflow.audit";

/// 64 random bits that identify one run of a process or of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Incarnation(pub u64);

/// The error for a text that is not 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an incarnation must be 16 hexadecimal digits")]
pub struct InvalidIncarnation;

/// `POST /gateway/v1/poll`: requests the changes since `version`, and waits for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PollRequest {
    /// The gateway's name: as configured, or Envoy's node ID.
    pub gateway: String,
    /// This run of the gateway's process.
    pub incarnation: Incarnation,
    /// The filter's version.
    pub filter_version: String,
    /// The latest snapshot format that the filter reads.
    pub snapshot_format: u16,
    /// The installation of the gateway's snapshot.
    pub installation: Option<Uuid>,
    /// The version of the gateway's snapshot, 0 if it has none.
    pub version: u64,
    /// Maximum time to wait for a change, in milliseconds.
    pub wait_ms: u64,
    /// Time after which something between gateway and control plane ended held polls, in milliseconds, if that
    /// happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_after_ms: Option<u64>,
    /// The gateway's wall clock when it sent the poll.
    pub clock: UnixMillis,
    /// The version that each VM enforces.
    pub vms: Vec<VmStatus>,
}

/// `POST /gateway/v1/enforced`: the version that each VM enforces, sent as soon as one changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnforcedReport {
    /// The gateway's name.
    pub gateway: String,
    /// This run of the gateway's process.
    pub incarnation: Incarnation,
    /// The installation of the gateway's snapshot.
    pub installation: Option<Uuid>,
    /// The version that each VM enforces.
    pub vms: Vec<VmStatus>,
}

/// The snapshot version that one VM enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmStatus {
    /// Identifies this run of the VM.
    pub id: Incarnation,
    /// The version, 0 if it has none.
    pub version: u64,
}

impl From<Incarnation> for String {
    fn from(incarnation: Incarnation) -> Self {
        format!("{:016x}", incarnation.0)
    }
}

impl TryFrom<String> for Incarnation {
    type Error = InvalidIncarnation;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let fits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = u64::from_str_radix(&text, 16).map_err(|_| InvalidIncarnation)?;
        if fits { Ok(Self(value)) } else { Err(InvalidIncarnation) }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn a_poll_serializes_to_json() {
        let json = concat!(
            r#"{"gateway":"edge","incarnation":"000000000000000a","filter_version":"0.1.0","snapshot_format":1,"#,
            r#""installation":null,"version":0,"wait_ms":20000,"clock":7,"vms":[]}"#
        );
        let poll: PollRequest = serde_json::from_str(json).unwrap();
        assert_eq!(poll.clock, UnixMillis(7));
        assert_eq!(serde_json::to_string(&poll).unwrap(), json);
        let without_clock = json.replace(r#""clock":7,"#, "");
        assert!(serde_json::from_str::<PollRequest>(&without_clock).is_err());
    }

    #[test]
    fn incarnations_are_16_hex_digits() {
        let json = serde_json::to_string(&Incarnation(0xab)).unwrap();
        assert_eq!(json, r#""00000000000000ab""#);
        assert_eq!(serde_json::from_str::<Incarnation>(&json).unwrap(), Incarnation(0xab));
        for bad in ["", "ab", "+0000000000000ab", "00000000000000zz", "000000000000000ab"] {
            assert_eq!(Incarnation::try_from(String::from(bad)), Err(InvalidIncarnation), "{bad}");
        }
    }
}
