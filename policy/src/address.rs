//! IP allowlists: where a key may be used from.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv6Addr};
use core::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Maximum number of networks in one allowlist.
pub const MAX_NETWORKS: usize = 64;
/// Size in bytes of one network in binary form: an address of 16 bytes (IPv4 as IPv4-mapped), then the prefix
/// length.
pub const NETWORK_SIZE: usize = 17;
/// Difference between the prefix length of a network in IPv4-mapped form and in IPv4 form (RFC 4291,
/// 2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// The networks that a key may be used from. An empty list allows any address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowlist(Vec<IpNet>);

/// Why a list of texts is not a valid allowlist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAllowlist {
    /// The text is neither an address nor a network.
    #[error(
        "{0:?} is not an IP address or network: use a form such as 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32"
    )]
    Syntax(String),
    /// The address has bits set outside its prefix.
    #[error("{given} has bits set outside its prefix: did you mean {meant}?")]
    HostBits {
        /// The network as written.
        given: String,
        /// The network that contains it.
        meant: IpNet,
    },
    /// The prefix covers IPv4-mapped addresses and others.
    #[error("{0} covers both IPv4 and IPv6 addresses: list the IPv4 network and the IPv6 network separately")]
    MixedFamilies(String),
    /// The list has more than [`MAX_NETWORKS`] networks.
    #[error("an allowlist can have at most {MAX_NETWORKS} networks")]
    TooMany,
}

/// An allowlist in binary form, read in place: [`NETWORK_SIZE`] bytes per network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllowlistView<'a>(&'a [u8]);

// === impl Allowlist ===

impl Allowlist {
    /// Parses the networks. IPv4-mapped ones become IPv4; the list is sorted and has no duplicates.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidAllowlist> {
        let mut networks = texts.into_iter().map(parse_network).collect::<Result<Vec<_>, _>>()?;
        networks.sort_unstable();
        networks.dedup();
        if networks.len() > MAX_NETWORKS {
            return Err(InvalidAllowlist::TooMany);
        }
        Ok(Self(networks))
    }

    /// The networks.
    pub fn networks(&self) -> &[IpNet] {
        &self.0
    }

    /// Encodes the list in binary form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * NETWORK_SIZE);
        for network in &self.0 {
            let extra = if matches!(network, IpNet::V4(_)) { MAPPED_BITS } else { 0 };
            bytes.extend_from_slice(&as_ipv6(network.addr()).octets());
            bytes.push(network.prefix_len() + extra);
        }
        bytes
    }
}

fn parse_network(text: &str) -> Result<IpNet, InvalidAllowlist> {
    let syntax = || InvalidAllowlist::Syntax(text.chars().take(64).collect());
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => IpNet::from_str(text).map_err(|_| syntax())?,
    };
    if network != network.trunc() {
        return Err(InvalidAllowlist::HostBits { given: text.to_string(), meant: network.trunc() });
    }
    let mapped = match network {
        IpNet::V6(v6) => v6.addr().to_ipv4_mapped(),
        IpNet::V4(_) => None,
    };
    match (mapped, network.prefix_len().checked_sub(MAPPED_BITS)) {
        (None, _) => Ok(network),
        (Some(address), Some(length)) => IpNet::new(IpAddr::V4(address), length).map_err(|_| syntax()),
        (Some(_), None) => Err(InvalidAllowlist::MixedFamilies(text.to_string())),
    }
}

impl Serialize for Allowlist {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

impl<'de> Deserialize<'de> for Allowlist {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        Self::parse(texts.iter().map(String::as_str)).map_err(de::Error::custom)
    }
}

// === impl AllowlistView ===

impl<'a> AllowlistView<'a> {
    /// Reads the binary form; `None` if it is truncated or has an invalid prefix length.
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        let (networks, rest) = bytes.as_chunks::<NETWORK_SIZE>();
        let valid =
            rest.is_empty() && networks.iter().all(|network| network.last().is_some_and(|bits| *bits <= 128));
        valid.then_some(Self(bytes))
    }

    /// The binary form.
    pub(crate) fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Whether the key may be used from `address`. Only an empty list admits an unknown address.
    pub fn admits(&self, address: Option<IpAddr>) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let Some(address) = address else { return false };
        let address = as_ipv6(address);
        // A network wider than all of IPv4 is an IPv6 network, and IPv4 is not part of IPv6.
        let least_bits = if address.to_ipv4_mapped().is_some() { MAPPED_BITS } else { 0 };
        let address = u128::from(address);
        self.networks().any(|(network, bits)| {
            // Shifting by all 128 bits overflows: a prefix length of 0 matches everything.
            bits >= least_bits && (address ^ network).checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
        })
    }

    /// Converts to the owned form.
    pub fn to_owned(&self) -> Allowlist {
        let networks = self.networks().filter_map(|(network, bits)| {
            let address = Ipv6Addr::from(network);
            match (address.to_ipv4_mapped(), bits.checked_sub(MAPPED_BITS)) {
                (Some(v4), Some(length)) => IpNet::new(IpAddr::V4(v4), length).ok(),
                _ => IpNet::new(IpAddr::V6(address), bits).ok(),
            }
        });
        Allowlist(networks.collect())
    }

    fn networks(&self) -> impl Iterator<Item = (u128, u8)> + use<'a> {
        let (networks, _) = self.0.as_chunks::<NETWORK_SIZE>();
        networks.iter().filter_map(|network| {
            let (address, bits) = network.split_first_chunk::<16>()?;
            Some((u128::from_be_bytes(*address), *bits.first()?))
        })
    }
}

/// Converts an address to IPv6, IPv4 to IPv4-mapped, so that both families compare in the same way.
fn as_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// Parses Envoy's `source.address`: `192.0.2.1:443`, `[2001:db8::1]:443`, or either without a port.
///
/// IPv4-mapped IPv6 addresses are returned as IPv4. Anything else, such as the path of a Unix socket, is
/// `None`.
pub fn parse_source_address(text: &[u8]) -> Option<IpAddr> {
    let text = core::str::from_utf8(text).ok()?;
    let host = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            let port_fits = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            port_fits.then_some(host)?
        }
        None => match text.split_once(':') {
            Some((host, port)) if is_port(port) => host,
            _ => text,
        },
    };
    host.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Whether the entry of `X-Forwarded-For` with the client's address has a port or brackets. Envoy cannot parse such an
/// entry and takes the address of the direct peer instead.
///
/// `trusted_hops` is the number of proxies whose entries Envoy trusts. Without any, clients alone write the header. The
/// last entry is the direct peer's, which Envoy itself adds.
pub fn is_forwarded_unparsed(forwarded: &[u8], trusted_hops: usize) -> bool {
    if trusted_hops == 0 {
        return false;
    }
    let Some(entry) = forwarded.rsplit(|byte| *byte == b',').nth(trusted_hops) else { return false };
    let entry = entry.trim_ascii();
    let is_plain = core::str::from_utf8(entry).is_ok_and(|text| text.parse::<IpAddr>().is_ok());
    !is_plain && parse_source_address(entry).is_some()
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

impl fmt::Display for Allowlist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, network) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{network}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
