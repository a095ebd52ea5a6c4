//! The JSON shapes of the API. Unknown fields of a request are refused; times are RFC 3339 in UTC.

pub(crate) mod audit;
pub(crate) mod audit_lines;
pub(crate) mod event;
pub(crate) mod finding;
pub(crate) mod gateway;
pub(crate) mod key;
pub(crate) mod leak;
pub(crate) mod page;
pub(crate) mod payload;
pub(crate) mod policy;
pub(crate) mod schema;
pub(crate) mod stats;
pub(crate) mod time;
pub(crate) mod token;
