//! Contributors' pages name files, items, tests and log messages of this repository. Each of them must exist.

use std::fs;
use std::path::Path;

use omniflow_structure::{root, source_files};

const PAGES: &[&str] = &[
    "docs/ARCHITECTURE.md",
    "docs/internals/envoy.md",
    "docs/concepts/security-model.md",
    "docs/concepts/anomalies.md",
    "CONTRIBUTING.md",
];

/// The end of the names that count as files of this repository.
const SUFFIXES: &[&str] = &[".rs", ".html", ".mjs", ".txt", ".toml", ".sh", ".md", "/"];

fn read(page: &str) -> String {
    fs::read_to_string(root().join(page)).unwrap()
}

/// The texts in backticks, without code blocks.
fn code_spans(text: &str) -> Vec<&str> {
    let mut spans = Vec::new();
    for (number, block) in text.split("```").enumerate() {
        if number % 2 == 0 {
            spans.extend(block.split('`').skip(1).step_by(2));
        }
    }
    spans
}

/// Whether a text is the path of a file or folder of this repository, such as `policy/src/key.rs` or `console/src/`.
fn is_path(span: &str) -> bool {
    SUFFIXES.iter().any(|suffix| span.ends_with(suffix))
        && span.starts_with(|first: char| first.is_ascii_alphanumeric())
        && !span.starts_with("target/")
        && span.chars().all(|one| one.is_ascii_alphanumeric() || "._-/".contains(one))
}

/// Whether a path exists in the root of the repository or in `control-plane/`.
fn exists(path: &str) -> bool {
    root().join(path).exists() || root().join("control-plane").join(path).exists()
}

fn content(path: &str) -> Option<String> {
    let root = root();
    [root.join(path), root.join("control-plane").join(path)]
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())
}

#[test]
fn every_path_in_a_contributors_page_exists() {
    let mut missing = Vec::new();
    let mut count = 0;
    for page in PAGES {
        let text = read(page);
        for path in code_spans(&text).into_iter().filter(|span| is_path(span)) {
            count += 1;
            if !exists(path) {
                missing.push(format!("{page}: {path}"));
            }
        }
    }
    assert!(count > 150, "only {count} paths were found");
    assert!(missing.is_empty(), "these files do not exist:\n{}", missing.join("\n"));
}

/// "`Key::rotate` in `domain/src/key/rotation.rs`" and "`A`, `B` in `file.rs`": the file contains the last name of each item.
#[test]
fn every_item_that_a_page_locates_is_in_its_file() {
    let mut missing = Vec::new();
    let mut count = 0;
    for page in PAGES {
        let text = read(page);
        let parts: Vec<_> = text.split('`').collect();
        for (index, path) in parts.iter().enumerate().skip(3).step_by(2).filter(|(_, span)| is_path(span)) {
            let Some(content) = content(path) else { continue };
            let mut separator = index - 1;
            if parts[separator] != " in " {
                continue;
            }
            loop {
                let item = parts[separator - 1];
                let name = item.rsplit("::").next().unwrap_or(item).trim_end_matches('!');
                count += 1;
                if !content.contains(name) {
                    missing.push(format!("{page}: {item} in {path}"));
                }
                if separator < 4
                    || !matches!(parts[separator - 2], ", " | " and ")
                    || is_path(parts[separator - 3])
                {
                    break;
                }
                separator -= 2;
            }
        }
    }
    assert!(count > 20, "only {count} items were found");
    assert!(missing.is_empty(), "these items are not in their files:\n{}", missing.join("\n"));
}

/// "`drain::a_new_filter_loses_no_record_of_the_old_one`" is a test in `tests/e2e/tests/drain.rs`.
#[test]
fn every_end_to_end_test_in_a_page_exists() {
    let mut missing = Vec::new();
    let mut count = 0;
    for page in PAGES {
        let text = read(page);
        for (module, test) in code_spans(&text).into_iter().filter_map(|span| span.split_once("::")) {
            let file = Path::new("tests/e2e/tests").join(format!("{module}.rs"));
            let Ok(source) = fs::read_to_string(root().join(file)) else { continue };
            count += 1;
            if !source.contains(&format!("fn {test}(")) {
                missing.push(format!("{page}: {module}::{test}"));
            }
        }
    }
    assert!(count > 5, "only {count} tests were found");
    assert!(missing.is_empty(), "these tests do not exist:\n{}", missing.join("\n"));
}

/// "log: `the control plane is unavailable (503)`" in the failure table is a message in the source.
#[test]
fn every_log_message_in_the_failure_table_is_in_the_source() {
    let page = read("docs/operations/failures.md");
    let files = source_files().unwrap();
    let mut missing = Vec::new();
    let mut count = 0;
    for line in page.lines() {
        let Some((_, messages)) = line.split_once("log: `") else { continue };
        // A message follows "log: " or, as the second one of a failure, "later ".
        let spans: Vec<_> = format!("log: `{messages}").split('`').map(str::to_owned).collect();
        for pair in spans.chunks(2) {
            let [before, message] = pair else { continue };
            if !before.ends_with("log: ") && !before.ends_with("later ") {
                continue;
            }
            count += 1;
            if !files.iter().any(|file| file.text.contains(message.as_str())) {
                missing.push(message.clone());
            }
        }
    }
    assert!(count >= 6, "only {count} messages were found");
    assert!(missing.is_empty(), "these messages are not in the source:\n{}", missing.join("\n"));
}
