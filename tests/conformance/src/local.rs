//! Edges that are started for the attacks: a real Envoy in each relevant configuration.

use anyhow::{Context as _, Result, bail, ensure};
use omniflow_harness::{Call, Stack, StackOptions, bootstrap};
use omniflow_policy::policy::PolicyDocument;
use serde_json::{Value, json};

use crate::campaign::{Anomalies, run};
use crate::edge::Edge;
use crate::limits;

const ALLOWED: &str = "/api/v1/contacts";

/// A configuration of Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Configuration {
    /// As shipped: paths reach the filter unchanged.
    AsShipped,
    /// Envoy first normalizes paths, merges slashes and decodes encoded slashes.
    Normalising,
    /// Names with underscores pass, and the upstream uses HTTP/1.1 regardless of the client.
    Lenient,
}

// === impl Configuration ===

impl Configuration {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::AsShipped, Self::Normalising, Self::Lenient];

    /// Its display name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AsShipped => "path normalisation off, as shipped",
            Self::Normalising => "path normalisation on, slashes merged and decoded",
            Self::Lenient => "underscores allowed, upstream over HTTP/1.1",
        }
    }

    fn options(self) -> StackOptions {
        let options = StackOptions { log_level: "error".to_owned(), ..StackOptions::workers(2) };
        match self {
            Self::AsShipped => options,
            Self::Normalising => options.edit(|config| {
                let manager = bootstrap::connection_manager(config)?;
                manager.insert("normalize_path".to_owned(), Value::Bool(true));
                manager.insert("merge_slashes".to_owned(), Value::Bool(true));
                manager.insert("path_with_escaped_slashes_action".to_owned(), json!("UNESCAPE_AND_FORWARD"));
                Ok(())
            }),
            Self::Lenient => options.edit(|config| {
                let manager = bootstrap::connection_manager(config)?;
                let lenient = json!({"headers_with_underscores_action": "ALLOW"});
                manager.insert("common_http_protocol_options".to_owned(), lenient);
                let clusters =
                    config["static_resources"]["clusters"].as_array_mut().context("no clusters")?;
                for cluster in
                    clusters.iter_mut().filter(|cluster| cluster["name"] != "omniflow_control_plane")
                {
                    let Some(cluster) = cluster.as_object_mut() else { bail!("a cluster that is no object") };
                    cluster.remove("typed_extension_protocol_options");
                }
                Ok(())
            }),
        }
    }
}

/// Starts an edge, attacks it, and checks that no VM has crashed.
pub async fn attack(configuration: Configuration, every: usize) -> Result<Anomalies> {
    let stack = Stack::start(configuration.options()).await?;
    let forbidden = forbid(&stack).await?;
    let fields = json!({
        "name": "attacker", "environment": "live", "scopes": ["contacts:read"], "rate_limit": {"per_minute": 1_000_000},
    });
    let key = stack.key(fields).await?;
    let edge = Edge {
        address: ([127, 0, 0, 1], stack.envoy.port()).into(),
        key: key.secret,
        allowed: ALLOWED.to_owned(),
        forbidden,
        upstreams: vec![&stack.live, &stack.test],
    };
    let mut anomalies = run(&edge, every).await?;
    anomalies.add_limits(limits::cases(&stack, ALLOWED).await?);
    ensure!(stack.envoy.stat("wasm.omniflow.vm_reload").await? == 0, "a VM has ended");
    ensure!(stack.envoy.process().exit_status().is_none(), "Envoy has ended");
    for log in [stack.envoy.process().log(), stack.control_plane.process().log()] {
        ensure!(!log.contains(&edge.key), "the key stands in a log");
    }
    Ok(anomalies)
}

/// Routes beside and below those of the key, for which it lacks the scope, with paths as the upstream reads them.
async fn forbid(stack: &Stack) -> Result<Vec<String>> {
    let mut policy: Value = serde_json::from_str(&PolicyDocument::default().to_json())?;
    let list = |value: &mut Value| value.as_array_mut().map(std::mem::take).unwrap_or_default();
    let (mut scopes, mut routes) = (list(&mut policy["scopes"]), list(&mut policy["routes"]));
    scopes.push(json!({"name": "admin:all", "description": "Nothing that the attacker has"}));
    for path in ["/admin", "/admin/{*rest}", "/all:purge", "/caf%C3%A9", "/it's"] {
        routes.push(json!({"path": format!("{ALLOWED}{path}"), "methods": ["any"], "scope": "admin:all"}));
    }
    routes.push(json!({"path": "/admin/{*rest}", "methods": ["any"], "scope": "admin:all"}));
    let call = Call::new("PUT", "/v1/policy").json(&json!({"scopes": scopes, "routes": routes}));
    stack.control_plane.expect(200, call).await?;
    stack.in_step().await?;
    let below = ["admin", "all:purge", "caf\u{e9}", "it's"].map(|name| format!("{ALLOWED}/{name}"));
    Ok(below.into_iter().chain(["/api/v1/tickets".to_owned(), "/admin/keys".to_owned()]).collect())
}
