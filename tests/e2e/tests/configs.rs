//! The shipped configurations are accepted by the supported Envoy, and have the documented properties.

use std::fs;
use std::path::PathBuf;

use omniflow_harness::bootstrap;
use omniflow_harness::ports::Port;
use omniflow_harness::{EnvoyOptions, paths};
use serde_json::Value;

const FOR_ENVOY: [&str; 2] = ["demo.yaml", "operator.yaml"];

fn shipped() -> Vec<PathBuf> {
    let entries = fs::read_dir(paths::root().join("envoy")).unwrap();
    let files: Vec<PathBuf> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    assert!(files.len() >= FOR_ENVOY.len());
    files
}

fn options(name: &str, folder: &tempfile::TempDir) -> EnvoyOptions {
    let (port, admin) = (Port::reserve().unwrap(), Port::reserve().unwrap());
    EnvoyOptions {
        template: paths::configuration(name),
        gateway_token: Some("omf_token_of_nobody".to_owned()),
        ..EnvoyOptions::new(folder.path(), port.number(), admin.number())
    }
}

#[test]
fn envoy_accepts_them() {
    for name in FOR_ENVOY {
        let folder = tempfile::tempdir().unwrap();
        options(name, &folder).validate().unwrap_or_else(|error| panic!("{name}: {error:#}"));
    }
}

#[test]
fn envoy_refuses_an_unknown_field() {
    let folder = tempfile::tempdir().unwrap();
    let options = options("demo.yaml", &folder).edit(|config| {
        config["static_resources"]["listeners"][0]["no_such_field"] = Value::Bool(true);
        Ok(())
    });
    let error = options.validate().unwrap_err().to_string();
    assert!(error.contains("no_such_field"), "{error}");
}

/// A Wasm filter that Envoy skips must not open access: the guard comes directly after it, wherever it is used.
#[test]
fn the_guard_is_right_behind_every_filter() {
    for path in shipped() {
        let text = fs::read_to_string(&path).unwrap();
        let documents = text.split("\n---\n").map(|document| {
            // Placeholders replace numbers or texts, so the file is valid YAML as it is.
            bootstrap::parse(document).unwrap_or_else(|error| panic!("{}: {error:#}", path.display()))
        });
        let mut chains = 0;
        for document in documents {
            each_filter_chain(&document, &mut |filters| {
                let Some(ours) = filters.iter().position(|filter| kind(filter).ends_with(".wasm.v3.Wasm"))
                else {
                    return;
                };
                chains += 1;
                let guard = filters.get(ours + 1).unwrap_or_else(|| panic!("{}: no guard", path.display()));
                assert!(kind(guard).ends_with(".rbac.v3.RBAC"), "{}: {guard}", path.display());
                assert!(guard.to_string().contains(r#""key":"wasm.omf_ok""#), "{}: {guard}", path.display());
            });
        }
        assert!(chains > 0, "{}: no chain with the filter", path.display());
    }
}

/// Client addresses decide about allowlists, so no shipped configuration leaves them to Envoy's defaults.
#[test]
fn client_addresses_are_explicit() {
    for name in FOR_ENVOY {
        let text = fs::read_to_string(paths::configuration(name)).unwrap();
        let mut config = bootstrap::parse(&text).unwrap();
        let manager = bootstrap::connection_manager(&mut config).unwrap();
        assert_eq!(manager["use_remote_address"], true, "{name}");
        assert_eq!(manager["xff_num_trusted_hops"], 0, "{name}");
    }
}

/// Clients that send or read nothing, and a full heap, must not take an edge down.
#[test]
fn idle_clients_and_memory_are_bounded() {
    let seconds = |value: &Value| value.as_str().unwrap().trim_end_matches('s').parse::<f64>().unwrap();
    for name in FOR_ENVOY {
        let text = fs::read_to_string(paths::configuration(name)).unwrap();
        let mut config = bootstrap::parse(&text).unwrap();
        let manager = bootstrap::connection_manager(&mut config).unwrap();
        for (field, max) in
            [("stream_idle_timeout", 60.0), ("stream_flush_timeout", 10.0), ("request_headers_timeout", 10.0)]
        {
            assert!(seconds(&manager[field]) <= max, "{name}: {field}");
        }
        let common = &manager["common_http_protocol_options"];
        assert!(seconds(&common["idle_timeout"]) <= 300.0, "{name}");
        assert!(seconds(&common["max_stream_duration"]) <= 900.0, "{name}");
        let overload = config["overload_manager"].to_string();
        for part in [
            "resource_monitors.fixed_heap",
            "resource_monitors.global_downstream_max_connections",
            "overload_actions.reset_high_memory_stream",
            "overload_actions.reduce_timeouts",
            "overload_actions.stop_accepting_requests",
            "minimum_account_to_track_power_of_two",
        ] {
            assert!(overload.contains(part), "{name}: {part}");
        }
    }
}

fn each_filter_chain(value: &Value, visit: &mut impl FnMut(&[Value])) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::Array(filters)) = fields.get("http_filters") {
                visit(filters);
            }
            fields.values().for_each(|field| each_filter_chain(field, visit));
        }
        Value::Array(items) => items.iter().for_each(|item| each_filter_chain(item, visit)),
        _ => {}
    }
}

fn kind(filter: &Value) -> &str {
    filter.pointer("/typed_config/@type").and_then(Value::as_str).unwrap_or_default()
}

/// The guide and the comments of `operator.yaml` show the same configuration for browsers.
#[test]
fn cors_is_the_same_in_the_guide_and_the_configuration() {
    let guide = fs::read_to_string(paths::root().join("docs/guides/cors-and-caches.md")).unwrap();
    let snippets: Vec<Value> = guide
        .split("```yaml\n")
        .skip(1)
        .map(|rest| bootstrap::parse(rest.split("```").next().unwrap()).unwrap())
        .collect();
    let operator = fs::read_to_string(paths::configuration("operator.yaml")).unwrap();
    let filter = bootstrap::commented(&operator, "- name: envoy.filters.http.cors").unwrap();
    assert_eq!(snippets[0]["http_filters"][0], filter[0]);
    let policy = bootstrap::commented(&operator, "typed_per_filter_config:").unwrap();
    assert_eq!(snippets[1]["virtual_hosts"][0]["typed_per_filter_config"], policy["typed_per_filter_config"]);
    let folder = tempfile::tempdir().unwrap();
    let options = options("operator.yaml", &folder)
        .edit(move |config| bootstrap::allow_origin(config, &operator, "https://app.example.com"));
    options.validate().unwrap();
}
