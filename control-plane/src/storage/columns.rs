//! The values of the model as columns, and back. A column that nobody wrote so is corrupt.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use omniflow_policy::address::Allowlist;
use omniflow_policy::digest::Digest;
use omniflow_policy::limit::RateLimit;
use omniflow_policy::scope::{InvalidScope, Scope, ScopeSet};
use omniflow_policy::time::UnixMillis;

use super::{Result, StorageError};

/// An instant as a column. What lies beyond the column's range is its end, some 292 million years ahead.
pub(super) fn to_millis(time: UnixMillis) -> i64 {
    saturated(time.0)
}

pub(super) fn from_millis(millis: i64) -> UnixMillis {
    UnixMillis(u64::try_from(millis).unwrap_or_default())
}

/// A count as a column. What lies beyond the column's range is its end.
pub(super) fn saturated(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// How many rows a statement gives at most.
pub(super) fn row_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(super) fn digest_bytes(digest: Digest) -> Vec<u8> {
    digest.as_bytes().to_vec()
}

pub(super) fn digest(bytes: &[u8]) -> Result<Digest> {
    bytes.try_into().map(Digest::from_bytes).map_err(|_| StorageError::Corrupt("a digest"))
}

/// An address as a column: 16 bytes, IPv4 in mapped form, so that every network is one range.
pub(super) fn address_bytes(address: IpAddr) -> Vec<u8> {
    let address: Ipv6Addr = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    address.octets().to_vec()
}

pub(super) fn address(bytes: &[u8]) -> Result<IpAddr> {
    let octets: [u8; 16] = bytes.try_into().map_err(|_| StorageError::Corrupt("an address"))?;
    Ok(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical())
}

/// Networks as a column: joined by single spaces, empty for any address.
pub(super) fn joined_networks(allowlist: &Allowlist) -> String {
    let networks: Vec<String> = allowlist.networks().iter().map(ToString::to_string).collect();
    networks.join(" ")
}

pub(super) fn allowlist(text: &str) -> Result<Allowlist> {
    Allowlist::parse(text.split_ascii_whitespace()).map_err(|_| StorageError::Corrupt("an IP allowlist"))
}

pub(super) fn scopes(text: &str) -> Result<ScopeSet> {
    let scopes: std::result::Result<Vec<Scope>, InvalidScope> =
        text.split_ascii_whitespace().map(str::parse).collect();
    scopes.and_then(ScopeSet::new).map_err(|_| StorageError::Corrupt("scopes"))
}

/// Limits that can be kept. A key without any would be one that is never refused.
pub(super) fn rate_limit(
    per_minute: Option<u32>,
    per_hour: Option<u32>,
    burst: Option<u32>,
) -> Result<RateLimit> {
    let limit = RateLimit { per_minute, per_hour, burst };
    limit.validate().map(|()| limit).map_err(|_| StorageError::Corrupt("a rate limit"))
}

/// A word that reads itself from text.
pub(super) fn parsed<T: FromStr>(text: &str, what: &'static str) -> Result<T> {
    text.parse().map_err(|_| StorageError::Corrupt(what))
}
