//! The chart as `helm template` renders it.

use std::process::Output;

use anyhow::{Context as _, Result, anyhow, bail};
use omniflow_harness::bootstrap;
use serde_json::Value;

use crate::{deploy, tool};

/// The release and its namespace.
pub const RELEASE: &str = "omniflow";

/// All files with values of the chart, by their names in `ci/`.
pub const VALUES: [&str; 4] = ["minimal", "plain", "full", "traffic-extension"];

/// The rendered objects.
#[derive(Debug, Clone)]
pub struct Manifests(Vec<Value>);

/// Runs `helm` with the chart, these files of `ci/` and these values.
///
/// # Errors
/// If `helm` cannot be started.
pub fn helm(verb: &[&str], files: &[&str], sets: &[&str]) -> Result<Output> {
    let chart = deploy("helm/omniflow");
    let mut command = tool("helm")?;
    command.args(verb).arg(&chart);
    for file in files {
        command.arg("--values").arg(chart.join("ci").join(format!("{file}.yaml")));
    }
    for set in sets {
        command.arg("--set-json").arg(set);
    }
    Ok(command.output()?)
}

/// Renders the chart.
///
/// # Errors
/// If `helm` fails, with its message.
pub fn render(files: &[&str], sets: &[&str]) -> Result<Manifests> {
    let verb = ["template", RELEASE, "--namespace", RELEASE];
    let output = helm(&verb, files, sets)?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Manifests::parse(&String::from_utf8(output.stdout)?)
}

/// The notes that `helm install` prints.
///
/// # Errors
/// If `helm` fails.
pub fn notes(files: &[&str]) -> Result<String> {
    let verb = ["install", RELEASE, "--namespace", RELEASE, "--dry-run=client"];
    let output = helm(&verb, files, &[])?;
    let text = String::from_utf8(output.stdout)?;
    let (_, notes) = text.split_once("NOTES:\n").ok_or_else(|| anyhow!("no notes"))?;
    Ok(notes.to_owned())
}

// === impl Manifests ===

impl Manifests {
    /// Reads the output of `helm template`.
    ///
    /// # Errors
    /// If a document is not YAML.
    pub fn parse(text: &str) -> Result<Self> {
        let mut documents = vec![String::new()];
        for line in text.lines() {
            if line == "---" {
                documents.push(String::new());
            } else if let Some(last) = documents.last_mut() {
                last.push_str(line);
                last.push('\n');
            }
        }
        let has_content = |text: &String| {
            text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        };
        let objects = documents.iter().filter(|text| has_content(text));
        Ok(Self(objects.map(|text| bootstrap::parse(text).context(text.clone())).collect::<Result<_>>()?))
    }

    /// All objects.
    pub fn all(&self) -> &[Value] {
        &self.0
    }

    /// The objects of a kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |object| object["kind"] == kind)
    }

    /// The object with this kind and name. Its absence is an error that lists what there is.
    ///
    /// # Errors
    /// If there is no such object.
    pub fn find(&self, kind: &str, name: &str) -> Result<&Value> {
        let names = || {
            let all =
                self.0.iter().map(|object| format!("{} {}", object["kind"], object["metadata"]["name"]));
            all.collect::<Vec<_>>().join(", ")
        };
        self.0
            .iter()
            .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
            .with_context(|| format!("no {kind} {name} in {}", names()))
    }

    /// The specification of every pod, with the name of the object that creates it.
    pub fn pods(&self) -> Vec<(String, &Value)> {
        let paths = ["/spec/template/spec", "/spec/jobTemplate/spec/template/spec"];
        let pod = |object: &Value| paths.iter().any(|path| object.pointer(path).is_some());
        self.0
            .iter()
            .filter(|object| pod(object))
            .filter_map(|object| {
                let spec = paths.iter().find_map(|path| object.pointer(path))?;
                Some((format!("{} {}", object["kind"], object["metadata"]["name"]), spec))
            })
            .collect()
    }
}

/// All containers of a pod, with those that initialize it.
pub fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"].into_iter().flat_map(|field| pod[field].as_array().into_iter().flatten())
}

/// The value of an environment variable of a container.
pub fn env<'a>(container: &'a Value, name: &str) -> Option<&'a str> {
    let mut all = container["env"].as_array()?.iter();
    all.find(|variable| variable["name"] == name)?["value"].as_str()
}
