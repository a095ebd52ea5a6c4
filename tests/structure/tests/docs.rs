//! The rules of the documentation: links and anchors resolve, every page is in the summary and begins with its purpose,
//! and the README stays short. `tests/e2e/tests/readme.rs` runs the commands.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use omniflow_structure::root;

/// Maximum number of lines of the README.
const MAX_README_LINES: usize = 180;
/// Pages outside of `docs/` whose links are checked too.
const OTHER_PAGES: &[&str] = &["README.md", "CONTRIBUTING.md", "CHANGELOG.md"];
/// Links with these prefixes lead outside of the repository and are not followed.
const ELSEWHERE: &[&str] = &["https://", "http://", "mailto:"];

/// A page, by its path relative to the root of the repository.
type Pages = BTreeMap<PathBuf, String>;

fn pages() -> Pages {
    let mut pages = Pages::new();
    collect(Path::new("docs"), &mut pages);
    for name in OTHER_PAGES {
        pages.insert(PathBuf::from(name), fs::read_to_string(root().join(name)).unwrap());
    }
    pages
}

fn collect(folder: &Path, pages: &mut Pages) {
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let path = folder.join(entry.unwrap().file_name());
        if root().join(&path).is_dir() {
            collect(&path, pages);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.insert(path.clone(), fs::read_to_string(root().join(&path)).unwrap());
        }
    }
}

/// The lines of a page outside of its code blocks, without inline code.
fn prose(text: &str) -> Vec<String> {
    let mut fence: Option<&str> = None;
    let mut lines = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        match fence {
            Some(end) if trimmed.starts_with(end) => fence = None,
            Some(_) => {}
            None if trimmed.starts_with("```") => fence = Some("```"),
            None if trimmed.starts_with("~~~") => fence = Some("~~~"),
            None => lines.push(line.to_owned()),
        }
    }
    lines
}

fn without_inline_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("code")
}

/// The targets of all links and images of a page, and of its link definitions.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for line in prose(text) {
        let line = without_inline_code(&line);
        let mut rest = line.as_str();
        while let Some((_, after)) = rest.split_once("](") {
            let (target, tail) = after.split_once(')').unwrap_or((after, ""));
            links.push(target.split(' ').next().unwrap_or_default().to_owned());
            rest = tail;
        }
        if line.starts_with('[')
            && !line.starts_with("[^")
            && let Some((_, target)) = line.split_once("]: ")
        {
            links.push(target.trim().to_owned());
        }
    }
    links
}

/// The text of a heading line without its number signs.
fn heading(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    (line.starts_with('#') && text.starts_with(' ')).then(|| text.trim())
}

/// The anchors of a page, formed as GitHub and mdBook form them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for line in prose(text) {
        if let Some(heading) = heading(&line) {
            let slug = slug(heading);
            let count = seen.entry(slug.clone()).or_default();
            anchors.insert(if *count == 0 { slug } else { format!("{slug}-{count}") });
            *count += 1;
        }
        for attribute in ["id=\"", "name=\""] {
            let ids = line.split(attribute).skip(1).filter_map(|rest| rest.split('"').next());
            anchors.extend(ids.map(str::to_owned));
        }
    }
    anchors
}

fn slug(heading: &str) -> String {
    let mut plain = String::new();
    let mut rest = heading;
    // Only the text of a link counts.
    while let Some((before, after)) = rest.split_once("](") {
        plain.push_str(before);
        rest = after.split_once(')').map_or("", |(_, tail)| tail);
    }
    plain.push_str(rest);
    plain
        .chars()
        .filter_map(|character| match character {
            ' ' => Some('-'),
            '-' | '_' => Some(character),
            _ if character.is_alphanumeric() => Some(character.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

/// The path without `.` and `..`; `None` if it leaves the repository.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => normal.pop().then_some(())?,
            Component::Normal(name) => normal.push(name),
            _ => {}
        }
    }
    Some(normal)
}

/// Why a link of a page does not resolve.
fn broken(page: &Path, link: &str, pages: &Pages) -> Option<String> {
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let folder = page.parent().unwrap_or(Path::new(""));
    let target = if path.is_empty() { Some(page.to_path_buf()) } else { normal(&folder.join(path)) };
    let Some(target) = target else { return Some("leaves the repository".to_owned()) };
    if !pages.contains_key(&target) && !root().join(&target).exists() {
        return Some(format!("{} does not exist", target.display()));
    }
    let anchor = anchor?;
    let Some(text) = pages.get(&target) else { return Some("has an anchor, and is no page".to_owned()) };
    (!anchors(text).contains(anchor)).then(|| format!("{} has no heading #{anchor}", target.display()))
}

#[test]
fn every_relative_link_resolves() {
    let pages = pages();
    let (mut count, mut problems) = (0, Vec::new());
    for (page, text) in &pages {
        for link in links(text) {
            if ELSEWHERE.iter().any(|beginning| link.starts_with(beginning)) {
                continue;
            }
            count += 1;
            if let Some(reason) = broken(page, &link, &pages) {
                problems.push(format!("{}: {link}: {reason}", page.display()));
            }
        }
    }
    assert!(count > 100, "only {count} links were found");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_page_is_in_the_summary_once() {
    let pages = pages();
    let summary = Path::new("docs/SUMMARY.md");
    let listed: Vec<PathBuf> =
        links(&pages[summary]).iter().map(|link| normal(&Path::new("docs").join(link)).unwrap()).collect();
    let unique: BTreeSet<&PathBuf> = listed.iter().collect();
    assert_eq!(unique.len(), listed.len(), "a page is listed twice");
    let missing: Vec<&PathBuf> = pages
        .keys()
        .filter(|page| page.starts_with("docs") && *page != summary && !unique.contains(page))
        .collect();
    assert!(missing.is_empty(), "not in docs/SUMMARY.md: {missing:?}");
}

/// A title, then a paragraph.
#[test]
fn every_page_begins_with_what_it_is_for() {
    for (page, text) in pages().iter().filter(|(page, _)| page.starts_with("docs")) {
        if page.ends_with("SUMMARY.md") {
            continue;
        }
        let lines = prose(text);
        let mut lines = lines.iter().filter(|line| !line.trim().is_empty() && !line.starts_with("<!--"));
        let title = lines.next().map(String::as_str).unwrap_or_default();
        assert!(title.starts_with("# "), "{}: {title:?} is no title", page.display());
        let first = lines.next().map(String::as_str).unwrap_or_default();
        let is_prose = !first.is_empty() && !first.starts_with(['#', '|', '!', '-', '<', '>']);
        assert!(is_prose, "{}: {first:?} does not say what the page is for", page.display());
    }
}

#[test]
fn the_readme_is_short() {
    let lines = fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= MAX_README_LINES, "README.md has {lines} lines, more than {MAX_README_LINES}");
}

/// A block of commands that cannot run in a test is marked, with the reason in the comment above it.
#[test]
fn commands_that_are_not_run_have_a_reason() {
    for (page, text) in &pages() {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let Some(tags) = line.strip_prefix("```sh,") else { continue };
            let place = format!("{}:{}", page.display(), number + 1);
            assert_eq!(tags, "norun", "{place}: unknown tag");
            let above = number.checked_sub(1).map(|above| lines[above]).unwrap_or_default();
            let reason = above.strip_prefix("<!-- norun: ").and_then(|rest| rest.strip_suffix(" -->"));
            assert!(reason.is_some_and(|reason| reason.len() > 10), "{place}: no reason above it");
        }
    }
}

/// Words before the name of a file that a command writes.
const WRITTEN: &[&str] = &["--output-file", ">", ">>", "-keyout", "-out"];

/// The files and folders at the top of the checkout that the commands of a page write. Commands after `cd` run elsewhere.
fn written(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut is_command = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(tag) => is_command = ["sh", "sh,norun", "bash"].contains(&tag),
            None if is_command && line.split_whitespace().any(|word| word == "cd") => break,
            None if is_command => {
                let words: Vec<&str> = line.split_whitespace().collect();
                let pairs = words.windows(2).filter(|pair| WRITTEN.contains(&pair[0]));
                let top = pairs.map(|pair| pair[1].split('/').next().unwrap_or_default());
                let is_name = |name: &&str| name.starts_with(|first: char| first.is_ascii_alphanumeric());
                names
                    .extend(top.map(|name| name.trim_matches([')', ';'])).filter(is_name).map(str::to_owned));
            }
            None => {}
        }
    }
    names
}

/// Otherwise a reader who follows the documentation in a checkout may commit a secret. `tests/e2e/tests/readme.rs` checks what
/// the commands really write.
#[test]
fn files_that_documented_commands_write_are_ignored() {
    let rules = fs::read_to_string(root().join(".gitignore")).unwrap();
    let rules: BTreeSet<&str> = rules.lines().map(|rule| rule.trim_matches('/')).collect();
    for (page, text) in &pages() {
        for name in written(text) {
            assert!(rules.contains(name.as_str()), "{}: .gitignore does not list /{name}", page.display());
        }
    }
}

#[test]
fn written_files_are_found() {
    let text = "```sh,norun\nomf token create --output-file a-token\n(umask 077 && echo x > b)\nx > /dev/null\n\
        x --output-file - | y\nopenssl -out c/d\n```\nx > no\n```sh\ncd ~/x\nx > no\n```\n";
    assert_eq!(written(text).into_iter().collect::<Vec<_>>(), ["a-token", "b", "c"]);
}

#[test]
fn links_and_anchors_are_found() {
    let text = "# One [two](a.md) `three`\n[x](b.md#c \"title\") `[no](no.md)` ![i](d.svg)\n```\n[no](no.md)\n# no\n```\n\
        [ref]: e.md\n## Same\n## Same\n<a id=\"own\"></a>\n";
    assert_eq!(links(text), ["a.md", "b.md#c", "d.svg", "e.md"]);
    assert_eq!(anchors(text).into_iter().collect::<Vec<_>>(), ["one-two-three", "own", "same", "same-1"]);
    let pages = Pages::from([(PathBuf::from("docs/a.md"), text.to_owned())]);
    let why = |link: &str| broken(Path::new("docs/a.md"), link, &pages).unwrap_or_default();
    assert_eq!(why("#own"), "");
    assert!(why("#other").contains("no heading"));
    assert!(why("nothing.md").contains("does not exist"));
    assert!(why("../../x").contains("leaves the repository"));
}
