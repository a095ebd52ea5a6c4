//! The Omniflow Keys filter for Envoy and Istio: proxy-wasm events in, policy decisions out.
//!
//! All rules live in `omniflow-policy`; this crate asks it and carries the answer out. One root context a VM
//! ([`root`]) keeps the VM in step with the others of its Envoy and with the control plane; one stream context a
//! request ([`stream`]) decides, marks and records. What VMs share lies in Envoy's shared data ([`shared`]).
//!
//! | module | idea |
//! |---|---|
//! | [`config`] | the plugin configuration |
//! | [`clock`] | the two clocks |
//! | [`abi`] | what the host and the filter call each other by; all unsafe code |
//! | [`entry`] | the callbacks, and the contexts that they are for |
//! | [`headers`] | header maps as they cross the ABI |
//! | [`host`] | the host's calls, made so that none of them can end the VM |
//! | [`shared`] | names and layouts in shared data |
//! | [`store`] | this VM's view of the snapshot, loaded from shared data page by page |
//! | [`page_cache`] | the copies of pages that it holds |
//! | [`peers`] | the VMs of this Envoy: who lives, who leads, who enforces what |
//! | [`sync`] | the leader's work: polling, deltas, full images |
//! | [`counters`] | rate-limit counters, exact over all workers |
//! | [`vm`] | what requests share with the root context |
//! | [`backoff`] | pauses after failures |
//! | [`audit`] | the buffer of audit records and its way to the control plane |
//! | [`legacy`] | what a VM that ends leaves to the others, and its way to the control plane |
//! | [`lost`] | the leader's word for VMs that have ended |
//! | [`control_plane`] | calls to the control plane |
//! | [`stream`], [`respond`] | one request, and the refusals |
//! | [`key_info`] | the answer to a caller that asks about its own key |
//! | [`metrics`] | counters by reason |
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod abi;
mod audit;
mod backoff;
mod clock;
mod config;
mod control_plane;
mod counters;
mod entry;
#[cfg(test)]
mod fake_host;
mod headers;
mod host;
mod key_info;
mod legacy;
mod lost;
mod metrics;
mod page_cache;
mod payload;
mod peers;
mod respond;
mod root;
mod settlement;
mod shared;
mod store;
mod stream;
mod sync;
mod vm;
