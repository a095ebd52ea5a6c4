//! From where a key may be used: IP allowlists.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv6Addr};
use core::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The most networks in one allowlist.
pub const MAX_NETWORKS: usize = 64;
/// Bytes of one network in its binary form: an address of 16 bytes (IPv4 as IPv4-mapped), then the prefix length.
pub const NETWORK_SIZE: usize = 17;
/// An IPv4 prefix length is this much longer in IPv4-mapped form (RFC 4291, 2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// The networks that a key may be used from. Empty means any address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowlist(Vec<IpNet>);

/// A text that is no network, or too many of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAllowlist {
    /// Neither an address nor a network.
    #[error("{0:?} is no IP address or network: write 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32")]
    Form(String),
    /// Bits are set to the right of the prefix.
    #[error("{given} has bits set outside its prefix: did you mean {meant}?")]
    HostBits {
        /// What was written.
        given: String,
        /// The network that holds it.
        meant: IpNet,
    },
    /// A prefix over IPv4-mapped addresses that covers more than IPv4.
    #[error("{0} covers IPv4 and more: write the IPv4 network and the IPv6 network apart")]
    MixedFamilies(String),
    /// More networks than a key may have.
    #[error("an allowlist has at most {MAX_NETWORKS} networks")]
    TooMany,
}

/// An allowlist in its binary form, read in place: [`NETWORK_SIZE`] bytes a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllowlistView<'a>(&'a [u8]);

// === impl Allowlist ===

impl Allowlist {
    /// Reads the networks; IPv4-mapped ones become IPv4, the list is sorted and each stands once.
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

    /// The binary form.
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
    let form = || InvalidAllowlist::Form(text.chars().take(64).collect());
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => IpNet::from_str(text).map_err(|_| form())?,
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
        (Some(address), Some(length)) => IpNet::new(IpAddr::V4(address), length).map_err(|_| form()),
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
    /// Reads the binary form; `None` unless it is whole.
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        let (networks, rest) = bytes.as_chunks::<NETWORK_SIZE>();
        let whole =
            rest.is_empty() && networks.iter().all(|network| network.last().is_some_and(|bits| *bits <= 128));
        whole.then_some(Self(bytes))
    }

    /// The binary form.
    pub(crate) fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Whether a call from `address` may use the key. An unknown address passes an empty list only.
    pub fn admits(&self, address: Option<IpAddr>) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let Some(address) = address else { return false };
        let address = as_ipv6(address);
        // A network that is wider than all of IPv4 is one of IPv6, which IPv4 is no part of.
        let least_bits = if address.to_ipv4_mapped().is_some() { MAPPED_BITS } else { 0 };
        let address = u128::from(address);
        self.networks().any(|(network, bits)| {
            // A shift by all 128 bits is no shift at all to the processor: a prefix of 0 matches everything.
            bits >= least_bits && (address ^ network).checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
        })
    }

    /// The owned form.
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

/// An address as IPv6, IPv4 in mapped form, so that both families compare alike.
fn as_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// Reads Envoy's `source.address`: `192.0.2.1:443`, `[2001:db8::1]:443`, or either without a port.
///
/// IPv4-mapped IPv6 addresses come back as IPv4. Anything else, such as the path of a Unix socket, is `None`.
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
mod tests {
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use proptest::prelude::*;

    use super::*;

    fn admits(list: &[&str], address: &str) -> bool {
        let bytes = Allowlist::parse(list.iter().copied()).unwrap().to_bytes();
        AllowlistView::from_bytes(&bytes).unwrap().admits(parse_source_address(address.as_bytes()))
    }

    #[test]
    fn networks_admit_their_addresses_only() {
        assert!(admits(&["203.0.113.0/24"], "203.0.113.255:9"));
        assert!(!admits(&["203.0.113.0/24"], "203.0.114.0:9"));
        assert!(admits(&["203.0.113.7"], "203.0.113.7"));
        assert!(!admits(&["203.0.113.7"], "203.0.113.8"));
        assert!(admits(&["2001:db8::/32"], "[2001:db8:ffff::1]:443"));
        assert!(!admits(&["2001:db8::/32"], "[2001:db9::1]:443"));
        assert!(admits(&["0.0.0.0/0"], "8.8.8.8:1"));
        assert!(!admits(&["0.0.0.0/0"], "[2001:db8::1]:1"), "all of IPv4 is not IPv6");
        assert!(admits(&["::/0"], "[2001:db8::1]:1"));
        assert!(!admits(&["::/0"], "8.8.8.8:1"), "all of IPv6 is not IPv4");
        assert!(!admits(&["::/64"], "[::ffff:8.8.8.8]:1"));
        assert!(admits(&["10.0.0.0/8"], "[::ffff:10.1.2.3]:1"), "IPv4-mapped is IPv4");
        assert!(admits(&["::ffff:10.0.0.0/104"], "10.1.2.3:1"));
    }

    #[test]
    fn an_empty_list_admits_all_and_an_unknown_address_passes_only_that() {
        assert!(admits(&[], "/run/envoy.sock"));
        assert!(!admits(&["0.0.0.0/0", "::/0"], "/run/envoy.sock"));
    }

    #[test]
    fn errors_name_the_network_that_was_meant() {
        let error = Allowlist::parse(["10.0.0.1/8"]).unwrap_err();
        assert_eq!(error.to_string(), "10.0.0.1/8 has bits set outside its prefix: did you mean 10.0.0.0/8?");
        for bad in ["", "10.0.0", "10.0.0.0/33", "::/129", "localhost", "10.0.0.1-10.0.0.9", "fe80::1%eth0"] {
            assert!(matches!(Allowlist::parse([bad]), Err(InvalidAllowlist::Form(_))), "{bad}");
        }
        assert!(matches!(Allowlist::parse(["::ffff:0:0/95"]), Err(InvalidAllowlist::HostBits { .. })));
        let many: Vec<String> = (0..65).map(|n| alloc::format!("10.0.0.{n}")).collect();
        assert_eq!(Allowlist::parse(many.iter().map(String::as_str)), Err(InvalidAllowlist::TooMany));
    }

    #[test]
    fn source_addresses() {
        let parse = |text: &str| parse_source_address(text.as_bytes()).map(|a| a.to_string());
        assert_eq!(parse("9.9.9.9:0").as_deref(), Some("9.9.9.9"));
        assert_eq!(parse("[::1]:80").as_deref(), Some("::1"));
        assert_eq!(parse("::1").as_deref(), Some("::1"));
        assert_eq!(parse("[::ffff:1.2.3.4]:80").as_deref(), Some("1.2.3.4"));
        for bad in ["", ":", "[::1", "[::1]80", "1.2.3.4:x", "1.2.3:80", "\u{e9}"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn the_binary_form_agrees_with_ipnet(net: u32, bits in 0u8..=32, address: u32) {
            let network = ipnet::Ipv4Net::new(net.into(), bits).unwrap().trunc();
            let list = Allowlist::parse([network.to_string().as_str()]).unwrap();
            let bytes = list.to_bytes();
            let view = AllowlistView::from_bytes(&bytes).unwrap();
            let address: core::net::Ipv4Addr = address.into();
            prop_assert_eq!(view.admits(Some(address.into())), network.contains(&address));
            prop_assert!(view.admits(Some(network.addr().into())));
            prop_assert_eq!(view.to_owned(), list);
        }

        #[test]
        fn the_binary_form_agrees_with_ipnet_v6(net: u128, bits in 0u8..=128, flip in 0u32..128) {
            let network = ipnet::Ipv6Net::new(net.into(), bits).unwrap().trunc();
            prop_assume!(network.addr().to_ipv4_mapped().is_none());
            let bytes = Allowlist::parse([network.to_string().as_str()]).unwrap().to_bytes();
            let address = Ipv6Addr::from(u128::from(network.addr()) ^ (1 << flip));
            let view = AllowlistView::from_bytes(&bytes).unwrap();
            prop_assert_eq!(view.admits(Some(address.into())), network.contains(&address));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, text: String) {
            let _ = AllowlistView::from_bytes(&bytes).map(|view| view.admits(None));
            let _ = parse_source_address(&bytes);
            let _ = Allowlist::parse([text.as_str()]);
        }
    }
}
