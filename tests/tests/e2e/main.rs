//! End-to-end tests through a real Envoy with the real filter and the real control plane.
//!
//! None of them sleeps in order to wait: what takes time is polled for, with a deadline.

mod addresses;
mod audit;
mod configs;
mod decisions;
mod faults;
mod gateway;
mod hostile;
mod limits;
mod marks;
mod openapi;
mod policy;
mod propagation;
mod reload;
mod rotation;
mod routes;
mod smoke;
mod support;
