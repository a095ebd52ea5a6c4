//! The JSON types of the API, the query parameters of its lists, and the errors of its requests. Requests with unknown
//! fields are rejected; times are RFC 3339 in UTC.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod admin_event;
pub mod anomaly;
pub mod audit;
pub mod audit_lines;
pub mod gateway;
pub mod key;
pub mod leak;
pub mod page;
pub mod parameters;
pub mod payload;
pub mod policy;
pub mod problem;
pub mod problem_code;
pub mod request_error;
pub mod schema;
pub mod stats;
pub mod time;
pub mod token;
pub mod values;
