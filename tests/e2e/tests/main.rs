//! End-to-end tests through a real Envoy with the real filter and the real control plane.
//!
//! None of them sleeps in order to wait: what takes time is polled for, with a deadline.

mod addresses;
mod anomalies;
mod argument_hash;
mod arrival;
mod arrival_at_scale;
mod audit;
mod backup;
mod certificates;
mod collector;
mod command_line;
mod concurrency;
mod configs;
mod configuration;
mod conformance;
mod decisions;
mod disasters;
mod drain;
mod edge;
mod faults;
mod gateway;
mod gateway_loss;
mod hostile;
mod imported_keys;
mod leaks;
mod limits;
mod load;
mod log_search;
mod openapi;
mod otlp;
mod payloads;
mod policy;
mod propagation;
mod readme;
mod reload;
mod replay;
mod retention;
mod rotation;
mod routes;
mod smoke;
mod support;
mod tls;
mod unread;
mod upstream_headers;
