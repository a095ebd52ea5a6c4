//! What the control plane sends by itself: new anomalies to a webhook, and the audit log to an OTLP collector.
//!
//! | module | idea |
//! |---|---|
//! | `http_sink` | one way to send a body to a URL that an operator configured, and when to send it again |
//! | `webhook` | anomalies, signed, at least once |
//! | `otlp` | records and gaps of the audit log as OpenTelemetry logs |
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod http_sink;
pub mod otlp;
pub mod webhook;
