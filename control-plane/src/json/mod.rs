//! The JSON shapes of the API. Unknown fields of a request are refused; times are RFC 3339 in UTC.

pub mod audit;
pub mod gateway;
pub mod key;
pub mod page;
pub mod policy;
pub mod time;
pub mod token;
