//! The cost of each host call: a filter that makes it many times, compared with the same filter that makes none.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use omniflow_harness::ports::Port;
use omniflow_harness::{Envoy, EnvoyOptions, paths};
use serde_json::{Map, Value, json};

use crate::cpu;
use crate::load::{self, Request};
use crate::statistics::Spread;

/// Repetitions of a call per request: enough to distinguish the difference from noise.
const TIMES: u32 = 20;

/// One host call.
pub(crate) struct HostCall {
    /// The name in the report.
    pub(crate) name: &'static str,
    /// The configuration of the probe.
    probe: &'static str,
    /// A callback that is hidden from the host instead.
    without: Option<&'static str>,
}

const fn call(name: &'static str, probe: &'static str) -> HostCall {
    HostCall { name, probe, without: None }
}

const fn crossing(callback: &'static str) -> HostCall {
    HostCall { name: callback, probe: "none", without: Some(callback) }
}

/// All measured calls, by their names in the ABI. The cost of a call that returns bytes includes its `proxy_on_memory_allocate`.
pub(crate) const HOST_CALLS: &[HostCall] = &[
    crossing("proxy_on_context_create"),
    crossing("proxy_on_request_headers"),
    crossing("proxy_on_response_headers"),
    crossing("proxy_on_response_body"),
    crossing("proxy_on_done"),
    crossing("proxy_on_log"),
    crossing("proxy_on_delete"),
    call("proxy_get_header_map_pairs", "request_headers"),
    call("proxy_get_property", "source_address"),
    call("clock_time_get", "clock"),
    call("proxy_get_shared_data", "shared_data"),
    call("proxy_set_shared_data", "set_shared_data"),
    call("proxy_increment_metric", "metric"),
    call("proxy_remove_header_map_value", "remove_request_header"),
    call("proxy_replace_header_map_value (request)", "replace_request_header"),
    call("proxy_set_header_map_pairs (and get)", "set_request_headers"),
    call("proxy_set_property", "filter_state"),
    call("proxy_get_header_map_value (response)", "status"),
    call("proxy_replace_header_map_value (response)", "replace_response_header"),
];

/// Every import and export of the probe, as Envoy's capability restriction names them.
const CAPABILITIES: &[&str] = &[
    "proxy_get_header_map_pairs",
    "proxy_set_header_map_pairs",
    "proxy_get_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_add_header_map_value",
    "proxy_remove_header_map_value",
    "proxy_get_property",
    "proxy_set_property",
    "proxy_get_shared_data",
    "proxy_set_shared_data",
    "proxy_get_buffer_bytes",
    "proxy_define_metric",
    "proxy_increment_metric",
    "proxy_get_current_time_nanoseconds",
    "clock_time_get",
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_request_headers",
    "proxy_on_response_headers",
    "proxy_on_response_body",
    "proxy_on_log",
    "proxy_on_done",
    "proxy_on_delete",
];

/// Measures all calls, in microseconds per call. Each round measures each call next to the filter that makes none.
pub(crate) async fn measure(
    folder: &Path,
    rounds: usize,
    requests: u64,
) -> Result<Vec<(&'static str, Spread)>> {
    let none = [HostCall { name: "none", probe: "none", without: None }];
    let probes: Vec<&HostCall> = none.iter().chain(HOST_CALLS).collect();
    let (ports, admin) = (reserve(probes.len())?, Port::reserve()?);
    let wasm = paths::filter_wasm()?.with_file_name("omniflow_probe_filter.wasm");
    ensure!(wasm.is_file(), "{} does not exist: run `make bench`", wasm.display());
    let wasm = wasm.display().to_string();
    let listeners: Vec<(u16, Value)> =
        ports.iter().zip(&probes).map(|(port, probe)| (port.number(), filter(probe, &wasm))).collect();
    let first = ports.first().context("no port")?.number();
    let options = EnvoyOptions {
        template: paths::root().join("bench/envoy/bare.yaml"),
        gateway: "bench".to_owned(),
        with_filter: false,
        log_level: "error".to_owned(),
        ..EnvoyOptions::new(folder, first, admin.number())
    };
    let envoy = Envoy::start(options.edit(move |config| multiply(config, listeners))).await?;
    let request = Request::with_key("/api/v1/conversations/7", "none");
    let mut samples: Vec<Vec<f64>> = probes.iter().map(|_| Vec::new()).collect();
    for round in 0..=rounds {
        let mut base = 0.0;
        for ((port, probe), samples) in ports.iter().zip(&probes).zip(&mut samples) {
            let before = cpu::time_of(envoy.process().id())?;
            load::saturate(port.number(), &request, requests).await.context(probe.name)?;
            let spent = cpu::time_of(envoy.process().id())?.saturating_sub(before);
            let cost = spent.as_secs_f64() * 1e6 / requests as f64;
            if probe.name == "none" {
                base = cost;
            } else if round > 0 {
                // The first round warms up.
                samples.push(if probe.without.is_some() {
                    base - cost
                } else {
                    (cost - base) / f64::from(TIMES)
                });
            }
        }
    }
    HOST_CALLS
        .iter()
        .zip(samples.iter().skip(1))
        .map(|(call, samples)| Ok((call.name, Spread::of(samples).context("nothing was measured")?)))
        .collect()
}

fn reserve(count: usize) -> Result<Vec<Port>> {
    (0..count).map(|_| Port::reserve()).collect()
}

/// The probe as a filter of Envoy.
fn filter(call: &HostCall, wasm: &str) -> Value {
    let times = if call.probe == "none" { 0 } else { TIMES };
    let mut config = json!({
        "name": "probe",
        "root_id": "probe",
        "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": format!("{} {times}", call.probe)},
        "vm_config": {"vm_id": call.name, "runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": wasm}}},
    });
    if let Some(without) = call.without {
        let allowed: Map<String, Value> = CAPABILITIES
            .iter()
            .filter(|name| **name != without)
            .map(|name| ((*name).to_owned(), json!({})))
            .collect();
        config["capability_restriction_config"] = json!({"allowed_capabilities": allowed});
    }
    json!({"name": "probe", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm", "config": config}})
}

/// Replaces the listener of the configuration by one listener per filter, each with its filter before the router.
fn multiply(config: &mut Value, filters: Vec<(u16, Value)>) -> Result<()> {
    let listeners = config.pointer_mut("/static_resources/listeners").and_then(Value::as_array_mut);
    let listeners = listeners.context("no listeners")?;
    let template = listeners.first().context("no listener")?.clone();
    *listeners = filters
        .into_iter()
        .map(|(port, filter)| {
            let mut listener = template.clone();
            listener["name"] = json!(format!("probe-{port}"));
            listener["address"]["socket_address"]["port_value"] = json!(port);
            let filters = listener.pointer_mut("/filter_chains/0/filters/0/typed_config/http_filters");
            filters.and_then(Value::as_array_mut).context("no filters")?.insert(0, filter);
            Ok(listener)
        })
        .collect::<Result<_>>()?;
    Ok(())
}
