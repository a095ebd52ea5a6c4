//! The configuration of the plugin: any bytes are parsed or rejected, and parsed values are within their bounds.
#![no_main]

// The filter itself cannot be linked here, because Envoy provides its imports. Its configuration needs none of them.
#[path = "../../../src/config.rs"]
#[allow(dead_code)]
mod config;

use config::Config;
use libfuzzer_sys::fuzz_target;
use omniflow_policy::path::Target;

fuzz_target!(|json: &[u8]| {
    let environment =
        json.first().is_some_and(|byte| byte % 2 == 0).then(|| "from-the-environment".to_owned());
    match Config::parse(json, environment) {
        Err(error) => assert!(!error.is_empty()),
        Ok(config) => {
            assert!(!config.cluster.is_empty() && !config.authority.is_empty());
            let token = config.authorization.strip_prefix("Bearer ").expect("a bearer token");
            assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
            assert!(config.max_snapshot_age.is_none_or(|age| age.as_secs() >= 30));
            assert!((65_536..=268_435_456).contains(&config.audit_buffer_bytes));
            assert!((10..=60_000).contains(&config.audit_flush.as_millis()));
            if let Some(path) = &config.settings.introspection_path {
                assert!(Target::parse(path.as_bytes()).is_ok());
            }
        }
    }
});
