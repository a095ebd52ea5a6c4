//! The Omniflow Keys filter for Envoy and Istio, a proxy-wasm program on the Rust SDK.
//!
//! All rules are in `omniflow-policy`; this crate applies its decisions. Each VM has one root context per configuration
//! ([`root`]), which synchronizes the VM with the other VMs and with the control plane, and one context per request
//! ([`request`]). VMs share state in Envoy's shared data ([`workers`]).
//!
//! | module | content |
//! |---|---|
//! | [`request`] | one request: decide, identity headers, response, record |
//! | [`snapshot`] | this VM's view of the snapshot, its copies of segments, the leader's synchronization |
//! | [`limits`] | rate limits, exact across workers |
//! | [`audit`] | audit records: buffer, handover, crash reports, quiescence |
//! | [`workers`] | the VMs of this Envoy: membership, lease, messages, shared data |
//! | [`root`], [`vm`] | the root context, and the state that it shares with request contexts |
//! | [`control_plane`] | HTTP calls to the control plane |
//! | [`config`] | the plugin configuration |
//! | [`metrics`] | metrics in Envoy's statistics |
//! | [`host`] | host calls |
//! | [`clock`], [`backoff`] | the clocks; delays after failures |
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod audit;
mod backoff;
mod clock;
mod config;
mod control_plane;
mod host;
mod limits;
mod metrics;
mod request;
mod root;
mod snapshot;
mod vm;
mod workers;

// The SDK's macro exports the entry point that Envoy calls. The compiler treats this as unsafe code.
#[allow(unsafe_code, missing_docs)]
mod start {
    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|id| Box::new(crate::root::Root::new(crate::host::ContextId(id))));
    }}
}
