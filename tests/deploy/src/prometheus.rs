//! Alerts and dashboards: their expressions, and a running Prometheus to evaluate them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use omniflow_harness::deadline::eventually;
use omniflow_harness::ports::Port;
use omniflow_harness::process::Process;
use omniflow_harness::{Call, bootstrap, client};
use serde_json::Value;

use crate::{deploy, tool};

const START: Duration = Duration::from_secs(30);

/// An alert of `deploy/prometheus/rules.yaml`.
#[derive(Debug)]
pub struct Alert {
    /// Its name.
    pub name: String,
    /// Its expression.
    pub expression: String,
    /// The link to its section in the documentation, relative to `docs/`.
    pub runbook: String,
}

/// A query of a panel of a dashboard.
#[derive(Debug, Clone)]
pub struct Query {
    /// The dashboard and the panel.
    pub place: String,
    /// The expression, with `$__rate_interval`.
    pub expression: String,
}

/// All alerts.
///
/// # Errors
/// If the file cannot be read.
pub fn alerts() -> Result<Vec<Alert>> {
    let rules = bootstrap::parse(&fs::read_to_string(deploy("prometheus/rules.yaml"))?)?;
    let groups = rules["groups"].as_array().context("no groups")?;
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten());
    let text = |value: &Value| value.as_str().map(str::to_owned).context("not a text");
    rules
        .map(|rule| {
            Ok(Alert {
                name: text(&rule["alert"])?,
                expression: text(&rule["expr"])?,
                runbook: text(&rule["annotations"]["runbook_url"])?,
            })
        })
        .collect()
}

/// The queries of all dashboards.
///
/// # Errors
/// If a dashboard is not JSON.
pub fn queries() -> Result<Vec<Query>> {
    let mut queries = Vec::new();
    for entry in fs::read_dir(deploy("grafana"))? {
        let path = entry?.path();
        let dashboard: Value = serde_json::from_slice(&fs::read(&path)?)?;
        for panel in dashboard["panels"].as_array().context("no panels")? {
            for target in panel["targets"].as_array().context("a panel without a query")? {
                let file = path.file_name().unwrap_or_default().display().to_string();
                let place = format!("{file}: {} ({})", panel["title"], target["refId"]);
                let expression = target["expr"].as_str().context("no expression")?.to_owned();
                queries.push(Query { place, expression });
            }
        }
    }
    Ok(queries)
}

/// The names of metrics in an expression: words that begin like ours or Envoy's. Regular expressions of names are left out.
pub fn metrics(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    let mut quoted = false;
    let mut names = BTreeSet::new();
    let mut at = 0;
    for word in words {
        let start = word.as_ptr().addr() - expression.as_ptr().addr();
        quoted ^= expression.get(at..start).is_some_and(|between| between.matches('"').count() % 2 == 1);
        at = start + word.len();
        let is_label = expression.get(at..).is_some_and(|rest| {
            let rest = rest.trim_start();
            rest.starts_with("=\"")
                || rest.starts_with("=~\"")
                || rest.starts_with("!=\"")
                || rest.starts_with("!~\"")
        });
        let known = ["omf_", "omniflow_", "envoy_"].iter().any(|prefix| word.starts_with(prefix));
        if known && !quoted && !is_label {
            names.insert(word);
        }
    }
    names
}

/// A running Prometheus. Dropping it stops it.
#[derive(Debug)]
pub struct Prometheus {
    port: Port,
    process: Process,
}

impl Prometheus {
    /// Starts it in this folder. It scrapes each target, a job with its port and path, once a second.
    ///
    /// # Errors
    /// If it does not become ready.
    pub async fn start(folder: &Path, targets: &[(&str, u16, &str)]) -> Result<Self> {
        let jobs: Vec<Value> = targets
            .iter()
            .map(|(job, port, path)| {
                serde_json::json!({
                    "job_name": job,
                    "metrics_path": path,
                    "static_configs": [{"targets": [format!("127.0.0.1:{port}")]}],
                })
            })
            .collect();
        let config = serde_json::json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [deploy("prometheus/rules.yaml")],
            "scrape_configs": jobs,
        });
        let file = folder.join("prometheus.yaml");
        fs::write(&file, config.to_string())?;
        let port = Port::reserve()?;
        let mut command = tool("prometheus")?;
        command.current_dir(folder).arg("--config.file").arg(&file);
        command.arg("--storage.tsdb.path").arg(folder.join("prometheus"));
        command.arg("--web.listen-address").arg(client::local(port.number()).to_string());
        let process = Process::spawn("Prometheus", &mut command, &folder.join("prometheus.log"))?;
        let prometheus = Self { port, process };
        eventually(START, || async {
            let response = client::call(prometheus.port.number(), Call::get("/-/ready")).await?;
            ensure!(response.status == 200, "{}", response.text());
            Ok(())
        })
        .await
        .with_context(|| format!("Prometheus is not ready:\n{}", prometheus.process.log_end(20)))?;
        Ok(prometheus)
    }

    /// The values of an expression now.
    ///
    /// # Errors
    /// If Prometheus rejects the expression.
    pub async fn query(&self, expression: &str) -> Result<Vec<f64>> {
        let encode = |byte: u8| match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        let body = format!("query={}", expression.bytes().map(encode).collect::<String>());
        let call = Call::new("POST", "/api/v1/query")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        let response = client::call(self.port.number(), call).await?;
        ensure!(response.status == 200, "{expression}: {}", response.text());
        let answer = response.json()?;
        let results = answer["data"]["result"].as_array().context("no results")?;
        let value = |result: &Value| result["value"][1].as_str().and_then(|text| text.parse().ok());
        Ok(results.iter().filter_map(value).collect())
    }

    /// The alerts that fire now.
    ///
    /// # Errors
    /// If Prometheus does not answer.
    pub async fn firing(&self) -> Result<BTreeSet<String>> {
        let response = client::call(self.port.number(), Call::get("/api/v1/alerts")).await?.json()?;
        let alerts = response["data"]["alerts"].as_array().context("no alerts")?;
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        Ok(firing.filter_map(|alert| alert["labels"]["alertname"].as_str().map(str::to_owned)).collect())
    }
}
