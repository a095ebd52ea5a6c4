//! The rules of the structure. Each failure names the files or crates.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use omniflow_structure::{Modules, circles, root, source_files};
use serde_json::Value;

/// The crates of this repository that each crate may depend on, apart from dev-dependencies. Dependencies point one
/// way: policy ← domain ← store ← service ← {api, console}; `omf` composes.
const ALLOWED: &[(&str, &[&str])] = &[
    ("omniflow-policy", &[]),
    ("omniflow-filter", &["omniflow-policy"]),
    ("omniflow-files", &[]),
    ("omniflow-http-client", &[]),
    ("omniflow-domain", &["omniflow-policy"]),
    ("omniflow-store", &["omniflow-policy", "omniflow-domain"]),
    ("omniflow-store-postgres", &["omniflow-policy", "omniflow-domain", "omniflow-files", "omniflow-store"]),
    ("omniflow-store-sqlite", &["omniflow-policy", "omniflow-domain", "omniflow-files", "omniflow-store"]),
    ("omniflow-service", &["omniflow-policy", "omniflow-domain", "omniflow-files", "omniflow-store"]),
    ("omniflow-api-types", &["omniflow-policy", "omniflow-domain"]),
    ("omniflow-net", &["omniflow-policy", "omniflow-domain", "omniflow-files"]),
    (
        "omniflow-outbound",
        &[
            "omniflow-policy",
            "omniflow-domain",
            "omniflow-files",
            "omniflow-http-client",
            "omniflow-store",
            "omniflow-api-types",
        ],
    ),
    (
        "omniflow-api",
        &["omniflow-policy", "omniflow-domain", "omniflow-service", "omniflow-api-types", "omniflow-net"],
    ),
    (
        "omniflow-console",
        &["omniflow-policy", "omniflow-domain", "omniflow-service", "omniflow-api-types", "omniflow-net"],
    ),
    ("omniflow-cli", &["omniflow-api-types", "omniflow-files", "omniflow-http-client"]),
];

/// Crates that compose others, or only test and measure them: they may depend on anything.
const FREE: &[&str] = &[
    "omf",
    "omniflow-deploy-tests",
    "omniflow-golden",
    "omniflow-oci",
    "omniflow-tests",
    "omniflow-harness",
    "omniflow-attacks",
    "omniflow-conformance",
    "omniflow-structure",
    "omniflow-bench",
    "omniflow-counting-host",
    "omniflow-empty-filter",
    "omniflow-probe-filter",
    "omniflow-test-postgres",
    "omniflow-test-server",
];

/// Crates for tests and benchmarks. Only dev-dependencies may point to them, whatever else a crate may depend on.
const TEST_ONLY: &[&str] = &["omniflow-golden", "omniflow-test-postgres", "omniflow-test-server"];

/// Maximum number of lines of a file, including tests.
const MAX_LINES: usize = 500;
/// Maximum number of files in an import cycle.
const MAX_CIRCLE: usize = 2;

/// Each crate with the crates of this repository that it depends on, apart from dev-dependencies.
fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let ours: BTreeSet<String> = packages.iter().map(name).collect();
    let dependencies = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        all.filter(|one| one["kind"] != "dev").map(name).filter(|name| ours.contains(name)).collect()
    };
    packages.iter().map(|package| (name(package), dependencies(package))).collect()
}

/// The edges that are not allowed.
fn forbidden(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut wrong = Vec::new();
    for (from, targets) in edges {
        let shipped = targets.iter().filter(|target| TEST_ONLY.contains(&target.as_str()));
        wrong.extend(shipped.map(|target| format!("{from} may depend on {target} only in dev-dependencies")));
    }
    for (from, targets) in edges.iter().filter(|(from, _)| !FREE.contains(&from.as_str())) {
        match allowed.get(from.as_str()) {
            None => wrong.push(format!("{from} is in no list of tests/structure/tests/rules.rs")),
            Some(allowed) => {
                let is_extra = |target: &str| !allowed.contains(&target) && !TEST_ONLY.contains(&target);
                let extra = targets.iter().filter(|target| is_extra(target));
                wrong.extend(extra.map(|target| format!("{from} must not depend on {target}")));
            }
        }
    }
    wrong
}

#[test]
fn crates_depend_one_way() {
    assert_eq!(forbidden(&edges()), Vec::<String>::new());
}

#[test]
fn a_forbidden_edge_is_found() {
    let mut edges = edges();
    edges.get_mut("omniflow-policy").unwrap().insert("omniflow-domain".to_owned());
    edges.insert("omniflow-new".to_owned(), BTreeSet::new());
    for from in ["omf", "omniflow-api"] {
        edges.get_mut(from).unwrap().insert("omniflow-test-server".to_owned());
    }
    let expected = [
        "omf may depend on omniflow-test-server only in dev-dependencies",
        "omniflow-api may depend on omniflow-test-server only in dev-dependencies",
        "omniflow-new is in no list of tests/structure/tests/rules.rs",
        "omniflow-policy must not depend on omniflow-domain",
    ];
    assert_eq!(forbidden(&edges), expected);
}

#[test]
fn files_do_not_import_each_other_in_circles() {
    let files = source_files().unwrap();
    let crates: BTreeSet<PathBuf> = files
        .iter()
        .filter_map(|file| {
            file.path.ancestors().find(|folder| folder.ends_with("src")).map(Path::to_path_buf)
        })
        .collect();
    let mut wrong = Vec::new();
    for folder in &crates {
        let modules = Modules::of_crate(folder, &files);
        for circle in circles(&modules.edges()).iter().filter(|circle| circle.len() > MAX_CIRCLE) {
            let names = circle.iter().map(|index| modules.all()[*index].file.display().to_string());
            wrong.push(names.collect::<Vec<_>>().join(", "));
        }
    }
    assert!(wrong.is_empty(), "files import each other in circles:\n{}", wrong.join("\n"));
}

#[test]
fn files_are_short() {
    let files = source_files().unwrap();
    let long = files.iter().map(|file| (file.text.lines().count(), &file.path));
    let long: Vec<String> = long
        .filter(|(lines, _)| *lines > MAX_LINES)
        .map(|(lines, path)| format!("{} has {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "more than {MAX_LINES} lines:\n{}", long.join("\n"));
}

/// Crates in which nothing may panic outside of tests: a crashed VM is an outage, and so is a failed request.
#[test]
fn crates_that_serve_deny_panics() {
    let files = source_files().unwrap();
    let roots = files.iter().filter(|file| {
        let path = file.path.to_string_lossy();
        path.ends_with("src/lib.rs")
            && (path == "src/lib.rs" || path.starts_with("policy/") || path.starts_with("control-plane/"))
            && !path.starts_with("control-plane/test-server/")
    });
    let lints = ["unwrap_used", "expect_used", "panic", "indexing_slicing"];
    let lacks = |text: &str| lints.iter().any(|lint| !text.contains(&format!("clippy::{lint}")));
    let wrong: Vec<String> =
        roots.filter(|file| lacks(&file.text)).map(|file| file.path.display().to_string()).collect();
    assert_eq!(wrong, Vec::<String>::new(), "these crates do not deny panics");
}
