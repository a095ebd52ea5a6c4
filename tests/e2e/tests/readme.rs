//! The commands in the README, the tutorial and the guides print the output that is shown. Numbers, times and
//! identifiers may differ. The output ends with a line end, and the commands leave no file that Git does not ignore.
//!
//! A block of commands with the tag `sh` runs; one with `sh,norun` does not, and has its reason in a comment. The block of
//! text right below shows its output: `…` represents any text, or any lines if it is alone on a line.
//! `UPDATE_DOCS=1 cargo test -p omniflow-tests readme` updates the pages where they differ: lines that match and `…` stay, and
//! an empty block of text is filled.

mod page;
mod shell;

use page::Page;
use shell::{Setting, Shell, stop};

/// Each page with how many of its blocks of commands run, and how many do not.
const PAGES: &[(&str, Setting, usize, usize)] = &[
    ("README.md", Setting::Demo, 5, 1),
    ("docs/getting-started.md", Setting::Nothing, 20, 1),
    ("docs/guides/backup.md", Setting::Nothing, 2, 3),
    ("docs/guides/cors-and-caches.md", Setting::Nothing, 0, 1),
    ("docs/guides/draining.md", Setting::Demo, 1, 0),
    ("docs/guides/envoy.md", Setting::Demo, 2, 5),
    ("docs/guides/importing-keys.md", Setting::Demo, 6, 0),
    ("docs/guides/ip-allowlists.md", Setting::Demo, 5, 0),
    ("docs/guides/istio.md", Setting::Nothing, 0, 2),
    ("docs/guides/kubernetes.md", Setting::Nothing, 2, 9),
    ("docs/guides/leaked-keys.md", Setting::Demo, 4, 0),
    ("docs/guides/monitoring.md", Setting::Demo, 5, 1),
    ("docs/guides/policies.md", Setting::Demo, 8, 0),
    ("docs/guides/rotation.md", Setting::Demo, 6, 2),
    ("docs/guides/streaming.md", Setting::Nothing, 0, 0),
    ("docs/guides/systemd.md", Setting::Nothing, 0, 6),
    ("docs/guides/upgrades.md", Setting::Nothing, 0, 4),
];

#[test]
fn every_block_of_commands_is_known() {
    for (name, _, run, skipped) in PAGES {
        let page = Page::read(name);
        assert_eq!(
            (page.blocks.len(), page.skipped),
            (*run, *skipped),
            "{name}: blocks that run, and that do not"
        );
    }
    let folder = omniflow_harness::paths::root().join("docs/guides");
    let guides = std::fs::read_dir(folder).unwrap().count();
    let known = PAGES.iter().filter(|(name, ..)| name.starts_with("docs/guides/")).count();
    assert_eq!(guides, known, "guides, and those of them in PAGES");
}

/// Runs the commands of a page. Returns what differs from the page.
async fn check(name: &'static str, setting: Setting) -> Vec<String> {
    let page = Page::read(name);
    if page.blocks.is_empty() {
        return Vec::new();
    }
    let shell = Shell::new();
    let demo = if setting == Setting::Demo { Some(shell.demo().await) } else { None };
    let outputs = shell.run(&page).await;
    if let Some(demo) = &demo {
        // A drained Envoy ends it.
        stop(demo, name.ends_with("draining.md"));
    }
    let untracked = shell.untracked();
    let (mut problems, mut updates) = (Vec::new(), Vec::new());
    if !untracked.is_empty() {
        problems
            .push(format!("{name}: the commands write files that .gitignore does not list: {untracked:?}"));
    }
    for (number, (block, (status, output))) in page.blocks.iter().zip(outputs).enumerate() {
        if status != "0" {
            problems.push(format!("{name}: exit status {status} of\n{}\n{output}", block.commands));
        } else if let Some(difference) = page.difference(block, &output) {
            problems.push(format!("{name}: {}\n{difference}", block.commands));
            updates.insert(0, (number, output));
        } else if !(output.is_empty() || output.ends_with('\n')) {
            problems.push(format!("{name}: the output has no line end: {}\n{output}", block.commands));
        }
    }
    if std::env::var_os("UPDATE_DOCS").is_some() && !updates.is_empty() {
        page.rewrite(&updates);
    }
    problems
}

async fn check_all(names: impl Fn(&str) -> bool) {
    let mut problems = Vec::new();
    for (name, setting, ..) in PAGES.iter().filter(|(name, ..)| names(name)) {
        problems.extend(check(name, *setting).await);
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

#[tokio::test]
async fn the_readme_shows_what_its_commands_print() {
    check_all(|name| name == "README.md").await;
}

#[tokio::test]
async fn the_tutorial_shows_what_its_commands_print() {
    check_all(|name| name == "docs/getting-started.md").await;
}

#[tokio::test]
async fn the_guides_show_what_their_commands_print() {
    check_all(|name| name.starts_with("docs/guides/")).await;
}
