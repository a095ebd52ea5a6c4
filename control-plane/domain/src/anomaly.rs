//! Anomalies in the usage of a key.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use omniflow_policy::time::UnixMillis;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::key::KeyReference;

/// The status in the evidence for gRPC calls with a status other than 0.
pub const GRPC_ERROR: &str = "grpc_error";
/// Maximum number of networks that an anomaly lists. Any others are only counted.
pub const MAX_NAMED: usize = 20;

/// A kind of anomaly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnomalyKind {
    /// Many more calls in an hour than usual for the key at that time.
    VolumeSpike,
    /// Calls from a network from which the key was never used.
    NewNetwork,
    /// Many more responses with one 4xx status than usual for this number of calls.
    ErrorRun,
    /// Calls from many more networks within ten minutes than usual for the key.
    ManyPlaces,
    /// Use of a version after it was revoked or had expired.
    UsedAfterEnd,
}

/// The error for a text that is not a kind of anomaly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a kind must be \"volume_spike\", \"new_network\", \"error_run\", \"many_places\" or \"used_after_end\""
)]
pub struct InvalidKind;

/// The addresses that count as one place: an IPv4 /24 or an IPv6 /48, the usual size for one site
/// (RFC 6177, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

/// The error for a text that is not such a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an IPv4 /24 or IPv6 /48 network")]
pub struct InvalidNetwork;

/// The observed values, and the values that they were compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Number of calls or networks, depending on the kind.
    pub observed: u64,
    /// The usual number; absent if any number is an anomaly.
    pub expected: Option<f64>,
    /// The lowest number that is an anomaly.
    pub bound: u64,
    /// Days of the key's history used for the comparison; absent if none are needed.
    pub history_days: Option<u64>,
    /// The networks, at most [`MAX_NAMED`].
    pub networks: Vec<Network>,
    /// The status, or 4xx for statuses without their own class.
    pub status: Option<String>,
    /// The version of the key.
    pub version: Option<u16>,
    /// The reason code of the refusals.
    pub reason: Option<String>,
}

/// An anomaly that a rule detected in the usage of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// The kind.
    pub kind: AnomalyKind,
    /// The key.
    pub key_id: Uuid,
    /// The key's name at the time.
    pub key_name: String,
    /// When the first of these calls began.
    pub first: UnixMillis,
    /// When the last of these calls began.
    pub last: UnixMillis,
    /// The evidence.
    pub evidence: Evidence,
}

/// An anomaly, from its first call to its last.
#[derive(Clone, Debug, PartialEq)]
pub struct Anomaly {
    /// Its number.
    pub id: i64,
    /// The evidence of its strongest hour, with its first and last call.
    pub detection: Detection,
}

/// A filter of anomalies. The default selects all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnomalyFilter {
    /// Only anomalies of this key, by identifier or by its name at the time.
    pub key: Option<KeyReference>,
    /// Only anomalies of this kind.
    pub kind: Option<AnomalyKind>,
    /// Only anomalies that lasted until at least this instant.
    pub from: Option<UnixMillis>,
    /// Only anomalies that began before this instant.
    pub to: Option<UnixMillis>,
}

// === impl AnomalyKind ===

impl AnomalyKind {
    /// All kinds.
    pub const ALL: [Self; 5] =
        [Self::VolumeSpike, Self::NewNetwork, Self::ErrorRun, Self::ManyPlaces, Self::UsedAfterEnd];

    /// The kind, as written in the API and the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VolumeSpike => "volume_spike",
            Self::NewNetwork => "new_network",
            Self::ErrorRun => "error_run",
            Self::ManyPlaces => "many_places",
            Self::UsedAfterEnd => "used_after_end",
        }
    }
}

impl FromStr for AnomalyKind {
    type Err = InvalidKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(InvalidKind)
    }
}

// === impl Network ===

impl Network {
    /// The network of an address.
    pub fn of(address: IpAddr) -> Self {
        // Neither length exceeds the maximum of its address family.
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(IpNet::V4(Ipv4Net::new_assert(v4, 24).trunc())),
            IpAddr::V6(v6) => Self(IpNet::V6(Ipv6Net::new_assert(v6, 48).trunc())),
        }
    }

    /// The common prefix of its addresses, with IPv4 addresses in mapped form.
    pub fn prefix(self) -> Vec<u8> {
        let (address, length) = match self.0 {
            IpNet::V4(v4) => (v4.addr().to_ipv6_mapped(), 15),
            IpNet::V6(v6) => (v6.addr(), 6),
        };
        address.octets().into_iter().take(length).collect()
    }

    /// The network with this prefix; `None` if there is no such network.
    pub fn from_prefix(prefix: &[u8]) -> Option<Self> {
        let mut octets = [0; 16];
        octets.get_mut(..prefix.len())?.copy_from_slice(prefix);
        let network = Self::of(IpAddr::V6(Ipv6Addr::from(octets)));
        (network.prefix() == prefix).then_some(network)
    }

    /// The network in CIDR notation.
    pub fn net(self) -> IpNet {
        self.0
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.0.to_string()
    }
}

impl TryFrom<String> for Network {
    type Error = InvalidNetwork;

    fn try_from(text: String) -> Result<Self, InvalidNetwork> {
        text.parse().map(Self).map_err(|_| InvalidNetwork)
    }
}

// === impl Detection ===

impl Detection {
    /// The value that distinguishes anomalies of one kind and key: each status is a separate run, and each version ends
    /// separately.
    pub fn subject(&self) -> String {
        match (&self.evidence.status, self.evidence.version) {
            (Some(status), _) => status.clone(),
            (None, Some(version)) => version.to_string(),
            (None, None) => String::new(),
        }
    }

    /// Extends the anomaly with a later detection of it. The evidence is that of the strongest hour, with all networks.
    pub fn extend(&mut self, later: Self) {
        let mut networks = self.evidence.networks.clone();
        networks.extend(
            later.evidence.networks.iter().copied().filter(|one| !self.evidence.networks.contains(one)),
        );
        networks.truncate(MAX_NAMED);
        if later.evidence.observed >= self.evidence.observed {
            self.evidence = later.evidence;
        }
        self.evidence.networks = networks;
        self.first = self.first.min(later.first);
        self.last = self.last.max(later.last);
        self.key_name = later.key_name;
    }

    /// A one-sentence summary.
    pub fn summary(&self) -> String {
        let Evidence { observed, expected, networks, status, version, reason, .. } = &self.evidence;
        let name = &self.key_name;
        let usual = expected.map_or(String::new(), |expected| format!(" (usually about {expected})"));
        match self.kind {
            AnomalyKind::VolumeSpike => format!("{name} made {observed} calls in an hour{usual}."),
            AnomalyKind::NewNetwork => {
                let named: Vec<String> = networks.iter().map(|one| one.net().to_string()).collect();
                let new = if named.len() == 1 { "a new network" } else { "new networks" };
                format!("{name} was used from {new}: {}.", named.join(", "))
            }
            AnomalyKind::ErrorRun => {
                let status = status.as_deref().unwrap_or("4xx");
                let meaning = match status {
                    "401" => "the upstream rejects its credentials",
                    "403" => "it attempts calls that are not permitted",
                    "404" => "it requests resources that do not exist",
                    "429" => "it exceeds its limits",
                    GRPC_ERROR => {
                        return format!("{name} received {observed} gRPC errors in an hour{usual}.");
                    }
                    _ => "its requests are rejected as invalid",
                };
                format!("{name} received {observed} {status} responses in an hour{usual}: {meaning}.")
            }
            AnomalyKind::ManyPlaces => {
                format!("{name} was used from {observed} networks within ten minutes{usual}.")
            }
            AnomalyKind::UsedAfterEnd => {
                let end = if reason.as_deref() == Some("key_expired") { "expired" } else { "was revoked" };
                let times = if *observed == 1 { "once".to_owned() } else { format!("{observed} times") };
                format!("Version {} of {name} was used {times} after it {end}.", version.unwrap_or_default())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_what_its_addresses_begin_with() {
        for (address, expected, length) in [
            ("203.0.113.7", "203.0.113.0/24", 15),
            ("::ffff:203.0.113.7", "203.0.113.0/24", 15),
            ("2001:db8:1:2::7", "2001:db8:1::/48", 6),
            ("::1", "::/48", 6),
        ] {
            let network = Network::of(address.parse().unwrap());
            assert_eq!(network.net().to_string(), expected);
            assert_eq!(network.prefix().len(), length, "{address}");
            assert_eq!(Network::from_prefix(&network.prefix()), Some(network));
        }
        for wrong in [&[][..], &[0; 15], &[0; 17], &[1; 7]] {
            assert_eq!(Network::from_prefix(wrong), None, "{wrong:?}");
        }
    }
}
