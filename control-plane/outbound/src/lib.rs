//! Outgoing connections of the control plane: new anomalies to a webhook, and the audit log to an OTLP collector.
//!
//! | module | content |
//! |---|---|
//! | `http_sink` | sends a body to a URL that the operator configured |
//! | `backoff` | the pause before something is sent again |
//! | `source` | the parts of the control plane that deliveries use |
//! | `webhook` | anomalies, delivered at least once and signed according to Standard Webhooks |
//! | `otlp` | records and gaps of the audit log as OpenTelemetry logs |
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests prepare files and measure time"))]

pub mod backoff;
pub mod http_sink;
pub mod otlp;
pub mod source;
pub mod webhook;
