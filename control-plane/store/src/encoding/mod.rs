//! Domain values as columns, and back: what every backend on a SQL database has in common. A column that cannot be
//! converted back is corrupt.
//!
//! Instants and counts are signed integers of 64 bits. SQL and drivers are not part of it: a backend implements [`Columns`]
//! for the rows of its driver, and passes rows whose columns are in the order that the function states.
//!
//! | module | rows of |
//! |---|---|
//! | [`keys`], [`access`], [`policy`] | keys; tokens, sessions, the admin log; policy versions and what keys hold |
//! | [`gateways`], [`request_log`], [`statistics`], [`anomalies`] | gateways; the request log and its statistics; anomalies |

pub mod access;
pub mod anomalies;
mod columns;
pub mod gateways;
pub mod keys;
pub mod policy;
pub mod request_log;
pub mod statistics;

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use omniflow_domain::gateway_pattern::GatewayPattern;
use omniflow_policy::address::Allowlist;
use omniflow_policy::digest::Digest;
use omniflow_policy::limit::RateLimit;
use omniflow_policy::scope::{InvalidScope, Scope, ScopeSet};
use omniflow_policy::time::UnixMillis;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Result, StoreError};
pub use columns::{Column, Columns, Value};

/// An instant as a column, saturated at the end of the column's range, some 292 million years ahead.
pub fn to_millis(time: UnixMillis) -> i64 {
    saturated(time.0)
}

/// The instant of a column. A negative one is 1970.
pub fn from_millis(millis: i64) -> UnixMillis {
    UnixMillis(u64::try_from(millis).unwrap_or_default())
}

/// A count as a column, saturated at the end of the column's range.
pub fn saturated(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A limit on rows as a column.
pub fn row_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A digest as a column.
pub fn digest_bytes(digest: Digest) -> Vec<u8> {
    digest.as_bytes().to_vec()
}

/// The digest of a column.
pub fn digest(bytes: &[u8]) -> Result<Digest> {
    bytes.try_into().map(Digest::from_bytes).map_err(|_| StoreError::Corrupt("a digest"))
}

/// An address as a column: 16 bytes, IPv4 as IPv4-mapped IPv6, so that every network is one range.
pub fn address_bytes(address: IpAddr) -> Vec<u8> {
    let address: Ipv6Addr = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    address.octets().to_vec()
}

/// The address of a column.
pub fn address(bytes: &[u8]) -> Result<IpAddr> {
    let octets: [u8; 16] = bytes.try_into().map_err(|_| StoreError::Corrupt("an address"))?;
    Ok(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical())
}

/// Networks as a column: joined by single spaces, empty for any address.
pub fn joined_networks(allowlist: &Allowlist) -> String {
    let networks: Vec<String> = allowlist.networks().iter().map(ToString::to_string).collect();
    networks.join(" ")
}

/// The networks of a column.
pub fn allowlist(text: &str) -> Result<Allowlist> {
    Allowlist::parse(text.split_ascii_whitespace()).map_err(|_| StoreError::Corrupt("an IP allowlist"))
}

/// The scopes of a column.
pub fn scopes(text: &str) -> Result<ScopeSet> {
    let scopes: std::result::Result<Vec<Scope>, InvalidScope> =
        text.split_ascii_whitespace().map(str::parse).collect();
    scopes.and_then(ScopeSet::new).map_err(|_| StoreError::Corrupt("scopes"))
}

/// A valid rate limit. A key without a limit would be unlimited.
pub fn rate_limit(per_minute: Option<i64>, per_hour: Option<i64>, burst: Option<i64>) -> Result<RateLimit> {
    let corrupt = || StoreError::Corrupt("a rate limit");
    let number = |column: Option<i64>| column.map(u32::try_from).transpose().map_err(|_| corrupt());
    let limit =
        RateLimit { per_minute: number(per_minute)?, per_hour: number(per_hour)?, burst: number(burst)? };
    limit.validate().map(|()| limit).map_err(|_| corrupt())
}

/// Patterns as a column. They contain no spaces.
pub fn joined_patterns(patterns: &[GatewayPattern]) -> String {
    patterns.iter().map(GatewayPattern::as_str).collect::<Vec<_>>().join(" ")
}

/// A value from its text form. An error names the value as `what`.
pub fn parsed<T: FromStr>(text: &str, what: &'static str) -> Result<T> {
    text.parse().map_err(|_| StoreError::Corrupt(what))
}

/// A value as JSON.
pub fn to_json<T: Serialize>(value: &T, what: &'static str) -> Result<String> {
    serde_json::to_string(value).map_err(|_| StoreError::Corrupt(what))
}

/// A value from JSON.
pub fn from_json<T: DeserializeOwned>(text: &str, what: &'static str) -> Result<T> {
    serde_json::from_str(text).map_err(|_| StoreError::Corrupt(what))
}
