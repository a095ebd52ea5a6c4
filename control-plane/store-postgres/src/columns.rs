//! Domain values as columns, and back. A column that cannot be converted back is corrupt.
//!
//! PostgreSQL has no unsigned integers: counts, times and limits are `bigint`, versions of keys are `integer`. Its texts cannot
//! contain a zero byte.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use omniflow_policy::address::Allowlist;
use omniflow_policy::digest::Digest;
use omniflow_policy::limit::RateLimit;
use omniflow_policy::scope::{InvalidScope, Scope, ScopeSet};
use omniflow_policy::time::UnixMillis;

use omniflow_store::{Result, StoreError};
use sqlx::postgres::PgRow;
use sqlx::{ColumnIndex, Decode, Postgres, Row, Type};

/// Reads the columns of a row.
pub(crate) trait Columns {
    /// The value of a column, by its index or name.
    fn column<'r, T, I>(&'r self, index: I) -> Result<T>
    where
        T: Decode<'r, Postgres> + Type<Postgres>,
        I: ColumnIndex<PgRow>;
}

impl Columns for PgRow {
    fn column<'r, T, I>(&'r self, index: I) -> Result<T>
    where
        T: Decode<'r, Postgres> + Type<Postgres>,
        I: ColumnIndex<Self>,
    {
        self.try_get(index).map_err(StoreError::backend)
    }
}

/// An instant as a column, saturated at the end of the column's range, some 292 million years ahead.
pub(crate) fn to_millis(time: UnixMillis) -> i64 {
    saturated(time.0)
}

pub(crate) fn from_millis(millis: i64) -> UnixMillis {
    UnixMillis(u64::try_from(millis).unwrap_or_default())
}

/// A count as a column, saturated at the end of the column's range.
pub(crate) fn saturated(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A limit on rows as a column.
pub(crate) fn row_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(crate) fn digest_bytes(digest: Digest) -> Vec<u8> {
    digest.as_bytes().to_vec()
}

pub(crate) fn digest(bytes: &[u8]) -> Result<Digest> {
    bytes.try_into().map(Digest::from_bytes).map_err(|_| StoreError::Corrupt("a digest"))
}

/// An address as a column: 16 bytes, IPv4 as IPv4-mapped IPv6, so that every network is one range.
pub(crate) fn address_bytes(address: IpAddr) -> Vec<u8> {
    let address: Ipv6Addr = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    address.octets().to_vec()
}

pub(crate) fn address(bytes: &[u8]) -> Result<IpAddr> {
    let octets: [u8; 16] = bytes.try_into().map_err(|_| StoreError::Corrupt("an address"))?;
    Ok(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical())
}

/// Networks as a column: joined by single spaces, empty for any address.
pub(crate) fn joined_networks(allowlist: &Allowlist) -> String {
    let networks: Vec<String> = allowlist.networks().iter().map(ToString::to_string).collect();
    networks.join(" ")
}

pub(crate) fn allowlist(text: &str) -> Result<Allowlist> {
    Allowlist::parse(text.split_ascii_whitespace()).map_err(|_| StoreError::Corrupt("an IP allowlist"))
}

pub(crate) fn scopes(text: &str) -> Result<ScopeSet> {
    let scopes: std::result::Result<Vec<Scope>, InvalidScope> =
        text.split_ascii_whitespace().map(str::parse).collect();
    scopes.and_then(ScopeSet::new).map_err(|_| StoreError::Corrupt("scopes"))
}

/// A valid rate limit. A key without a limit would be unlimited.
pub(crate) fn rate_limit(
    per_minute: Option<i64>,
    per_hour: Option<i64>,
    burst: Option<i64>,
) -> Result<RateLimit> {
    let corrupt = || StoreError::Corrupt("a rate limit");
    let number = |column: Option<i64>| column.map(u32::try_from).transpose().map_err(|_| corrupt());
    let limit =
        RateLimit { per_minute: number(per_minute)?, per_hour: number(per_hour)?, burst: number(burst)? };
    limit.validate().map(|()| limit).map_err(|_| corrupt())
}

/// The number of a version from its column.
pub(crate) fn version(column: i32) -> Result<u16> {
    u16::try_from(column).map_err(|_| StoreError::Corrupt("a version"))
}

/// A value from its text form.
pub(crate) fn parsed<T: FromStr>(text: &str, what: &'static str) -> Result<T> {
    text.parse().map_err(|_| StoreError::Corrupt(what))
}
