//! The plugin configuration: one JSON object, validated completely before anything starts.

use std::time::Duration;

use omniflow_policy::authorize::{GatewaySettings, INTROSPECTION_PATH, NonKeyCredentials};
use omniflow_policy::credential::{CredentialHeader, MethodOverride};
use omniflow_policy::gateway::is_gateway_name;
use omniflow_policy::path::Target;
use serde::Deserialize;

/// The VM's environment variable for the gateway token, if the configuration has none.
pub(crate) const TOKEN_VARIABLE: &str = "OMF_GATEWAY_TOKEN";

/// A valid configuration.
#[derive(Clone)]
pub(crate) struct Config {
    /// The control plane's cluster in Envoy.
    pub(crate) cluster: String,
    /// `:authority` of calls to it.
    pub(crate) authority: String,
    /// The value of `authorization` in calls to it. A secret, never logged.
    pub(crate) authorization: String,
    /// This gateway's name. `None` for Envoy's node ID.
    pub(crate) gateway: Option<String>,
    /// Whether the credential is removed before the request reaches the upstream.
    pub(crate) strip_credential: bool,
    /// Whether the decision is set as filter state, for access logs.
    pub(crate) access_log_state: bool,
    /// The number of proxies whose entries in `X-Forwarded-For` Envoy trusts.
    pub(crate) trusted_hops: usize,
    /// Whether responses to calls with a key are marked so that shared caches do not serve them to others.
    pub(crate) private_responses: bool,
    /// The settings that decisions depend on.
    pub(crate) settings: GatewaySettings,
    /// The maximum time since the control plane last confirmed the snapshot. `None` for no limit.
    pub(crate) max_snapshot_age: Option<Duration>,
    /// Room in bytes for a VM's copies of snapshot segments.
    pub(crate) key_cache_bytes: usize,
    /// Room in bytes for a VM's audit records until the control plane has acknowledged them.
    pub(crate) audit_buffer_bytes: usize,
    /// How long a record waits for other records before it is sent.
    pub(crate) audit_flush: Duration,
}

/// The configuration as written. Changes need a row in `docs/reference/filter-settings.md`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields)]
struct Document {
    cluster: String,
    authority: Option<String>,
    gateway_token: Option<String>,
    gateway: Option<String>,
    #[serde(default = "yes")]
    strip_credential: bool,
    #[serde(default = "yes")]
    access_log_state: bool,
    #[serde(default = "yes")]
    private_responses: bool,
    #[serde(default)]
    trusted_hops: usize,
    #[serde(default)]
    credential_header: CredentialHeader,
    #[serde(default)]
    method_override: MethodOverride,
    #[serde(default)]
    non_key_credentials: NonKeyCredentials,
    #[serde(default)]
    max_snapshot_age_seconds: u64,
    #[serde(default = "default_introspection_path")]
    introspection_path: Option<String>,
    #[serde(default = "default_key_cache")]
    key_cache_bytes: usize,
    #[serde(default = "default_buffer")]
    audit_buffer_bytes: usize,
    #[serde(default = "default_flush")]
    audit_flush_ms: u64,
}

fn yes() -> bool {
    true
}

fn default_introspection_path() -> Option<String> {
    Some(INTROSPECTION_PATH.to_owned())
}

fn default_key_cache() -> usize {
    32 * 1024 * 1024
}

fn default_buffer() -> usize {
    8 * 1024 * 1024
}

fn default_flush() -> u64 {
    500
}

/// The minimum of `max_snapshot_age_seconds`. At this value, the control plane confirms an unchanged snapshot every 10
/// seconds.
const MIN_SNAPSHOT_AGE: u64 = 30;

impl Config {
    /// Parses the configuration. An error names the field and the valid values.
    pub(crate) fn parse(json: &[u8], environment_token: Option<String>) -> Result<Self, String> {
        if json.is_empty() {
            return Err("the plugin configuration is empty; set at least \"cluster\"".to_owned());
        }
        let document: Document = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(
            json,
        ))
        .map_err(|error| match error.path().to_string().as_str() {
            "." => error.inner().to_string(),
            field => format!("{field}: {}", error.inner()),
        })?;
        if document.cluster.is_empty() {
            return Err("cluster: set it to the Envoy cluster of the control plane".to_owned());
        }
        let authority = document.authority.unwrap_or_else(|| document.cluster.clone());
        if authority.is_empty() || !authority.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("authority: must be a host name, optionally with a port".to_owned());
        }
        let token = document.gateway_token.or(environment_token).unwrap_or_default();
        if token.is_empty() {
            return Err(format!(
                "gateway_token: missing; set it or the environment variable {TOKEN_VARIABLE} of the VM, and create a token with \
                 'omf token create --role gateway'"
            ));
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("gateway_token: must not contain spaces or line breaks".to_owned());
        }
        if document.gateway.as_ref().is_some_and(|gateway| !is_gateway_name(gateway)) {
            return Err("gateway: must be 1 to 128 printable ASCII characters without spaces".to_owned());
        }
        let age = document.max_snapshot_age_seconds;
        if age != 0 && age < MIN_SNAPSHOT_AGE {
            return Err(format!(
                "max_snapshot_age_seconds: must be 0 (no limit) or at least {MIN_SNAPSHOT_AGE}"
            ));
        }
        if let Some(path) = &document.introspection_path
            && Target::parse(path.as_bytes()).map(|target| target.path) != Ok(path.as_str())
        {
            return Err(format!(
                "introspection_path: must be a path such as {INTROSPECTION_PATH}, or null to disable it"
            ));
        }
        if !(1_048_576..=268_435_456).contains(&document.key_cache_bytes) {
            return Err("key_cache_bytes: must be from 1048576 to 268435456".to_owned());
        }
        if !(65_536..=268_435_456).contains(&document.audit_buffer_bytes) {
            return Err("audit_buffer_bytes: must be from 65536 to 268435456".to_owned());
        }
        if !(10..=60_000).contains(&document.audit_flush_ms) {
            return Err("audit_flush_ms: must be from 10 to 60000".to_owned());
        }
        Ok(Self {
            cluster: document.cluster,
            authority,
            authorization: format!("Bearer {token}"),
            gateway: document.gateway,
            strip_credential: document.strip_credential,
            access_log_state: document.access_log_state,
            trusted_hops: document.trusted_hops,
            private_responses: document.private_responses,
            settings: GatewaySettings {
                non_key_credentials: document.non_key_credentials,
                introspection_path: document.introspection_path,
                credential_header: document.credential_header,
                method_override: document.method_override,
            },
            max_snapshot_age: (age != 0).then(|| Duration::from_secs(age)),
            key_cache_bytes: document.key_cache_bytes,
            audit_buffer_bytes: document.audit_buffer_bytes,
            audit_flush: Duration::from_millis(document.audit_flush_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> String {
        match Config::parse(json.as_bytes(), None) {
            Ok(_) => String::from("accepted"),
            Err(error) => error,
        }
    }

    #[test]
    fn minimal_configuration_has_defaults() {
        let config = Config::parse(br#"{"cluster": "omniflow", "gateway_token": "t"}"#, None);
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.authority, "omniflow");
        assert_eq!(config.authorization, "Bearer t");
        assert!(config.strip_credential && config.access_log_state && config.private_responses);
        assert_eq!(config.settings.credential_header, CredentialHeader::Any);
        assert_eq!(config.settings.method_override, MethodOverride::Refuse);
        assert_eq!(config.settings.non_key_credentials, NonKeyCredentials::Refuse);
        assert_eq!(config.settings.introspection_path.as_deref(), Some("/.well-known/omniflow/key"));
        assert_eq!(config.max_snapshot_age, None);
    }

    #[test]
    fn token_may_come_from_the_environment() {
        let config = Config::parse(br#"{"cluster": "omniflow"}"#, Some("env".to_owned()));
        assert_eq!(config.map(|config| config.authorization), Ok("Bearer env".to_owned()));
    }

    #[test]
    fn errors_name_the_field() {
        let with = |rest: &str| error(&format!(r#"{{"cluster": "c", "gateway_token": "t", {rest}}}"#));
        assert!(error("").contains("empty"));
        assert!(error("{").contains("line 1"));
        assert!(error("{}").contains("missing field `cluster`"));
        assert!(error(r#"{"cluster": ""}"#).starts_with("cluster:"));
        assert!(error(r#"{"cluster": "c"}"#).starts_with("gateway_token:"));
        assert!(error(r#"{"cluster": "c", "gateway_token": "a b"}"#).starts_with("gateway_token:"));
        assert!(with(r#""gateway": """#).starts_with("gateway:"));
        assert!(with(r#""authority": "a b""#).starts_with("authority:"));
        assert!(with(r#""max_snapshot_age_seconds": 5"#).starts_with("max_snapshot_age_seconds:"));
        assert!(with(r#""key_cache_bytes": 5"#).starts_with("key_cache_bytes:"));
        assert!(with(r#""audit_buffer_bytes": 5"#).starts_with("audit_buffer_bytes:"));
        for path in ["", "key", "/a//b", "/a?b"] {
            assert!(
                with(&format!(r#""introspection_path": "{path}""#)).starts_with("introspection_path:"),
                "{path}"
            );
        }
        assert!(with(r#""audit_flush_ms": 0"#).starts_with("audit_flush_ms:"));
        assert!(
            with(r#""non_key_credentials": "allow""#)
                .starts_with("non_key_credentials: unknown variant `allow`")
        );
        assert!(with(r#""audit_flush_ms": "fast""#).starts_with("audit_flush_ms: invalid type"));
        assert!(
            with(r#""credential_header": "cookie""#)
                .starts_with("credential_header: unknown variant `cookie`, expected `any` or `x-api-key`")
        );
        assert!(with(r#""method_override": "strip""#).starts_with("method_override: unknown variant"));
        assert!(with(r#""strip_credentials": false"#).contains("unknown field `strip_credentials`"));
    }

    /// The fields in the reference, with their defaults in JSON; null for defaults described in words.
    fn documented() -> serde_json::Map<String, serde_json::Value> {
        let text = include_str!("../docs/reference/filter-settings.md");
        let rows = text.lines().skip_while(|line| *line != "| field | default | meaning |").skip(2);
        let cells = rows.map_while(|line| line.strip_prefix("| `")?.split_once("` | "));
        cells
            .map(|(name, rest)| {
                let default = rest.split(" | ").next().unwrap_or_default();
                let json = default.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
                let value = json.map_or(Ok(serde_json::Value::Null), serde_json::from_str);
                (name.to_owned(), value.unwrap_or_else(|error| panic!("{name}: {default}: {error}")))
            })
            .collect()
    }

    #[test]
    fn example_in_the_reference_is_valid() {
        let text = include_str!("../docs/reference/filter-settings.md");
        let example =
            text.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
        let config = Config::parse(example.as_bytes(), Some("t".to_owned()));
        assert_eq!(config.map(|config| config.authority), Ok("keys.internal".to_owned()));
    }

    #[test]
    fn reference_lists_every_field_with_its_default() {
        let minimal: Document =
            serde_json::from_str(r#"{"cluster": "c"}"#).unwrap_or_else(|error| panic!("{error}"));
        let mut expected = serde_json::to_value(minimal).unwrap_or_else(|error| panic!("{error}"));
        // The field is required, which the table states in words.
        expected["cluster"] = serde_json::Value::Null;
        assert_eq!(serde_json::Value::Object(documented()), expected);
    }
}
