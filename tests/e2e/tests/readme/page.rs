//! The commands of a page, and the output that it shows for them.

use std::fs;
use std::path::PathBuf;

use omniflow_harness::paths;

/// Stands for any text within a line, or alone for any number of lines.
const ANYTHING: &str = "…";
/// Separators of words, apart from white space.
const SEPARATORS: [char; 11] = ['"', '\'', '{', '}', '[', ']', '(', ')', ',', '/', '='];

/// Names in the dates of HTTP headers.
const CALENDAR: [&str; 19] = [
    "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug",
    "Sep", "Oct", "Nov", "Dec",
];

/// A page of the documentation.
#[derive(Debug)]
pub(super) struct Page {
    /// Its path, relative to the root of the repository.
    pub(super) name: &'static str,
    lines: Vec<String>,
    /// The blocks of commands that run.
    pub(super) blocks: Vec<Block>,
    /// How many blocks of commands are marked as not to be run.
    pub(super) skipped: usize,
}

/// A block of commands.
#[derive(Debug)]
pub(super) struct Block {
    /// The commands.
    pub(super) commands: String,
    output: Option<Shown>,
}

/// The output that a page shows: the lines of the page from `first` to before `end`.
#[derive(Clone, Copy, Debug)]
struct Shown {
    first: usize,
    end: usize,
}

// === impl Page ===

impl Page {
    pub(super) fn read(name: &'static str) -> Self {
        let text = fs::read_to_string(paths::root().join(name)).unwrap();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let (mut blocks, mut skipped) = (Vec::<Block>::new(), 0);
        let mut number = 0;
        // Whether there was only white space since the last block of commands.
        let mut follows = false;
        while let Some(line) = lines.get(number) {
            let Some(tag) = line.strip_prefix("```") else {
                follows &= line.trim().is_empty();
                number += 1;
                continue;
            };
            let first = number + 1;
            let length = lines[first..].iter().position(|line| line == "```").unwrap();
            let end = first + length;
            match tag {
                "sh" => {
                    let commands = lines[first..end].join("\n");
                    blocks.push(Block { commands, output: None });
                }
                "text" if follows => blocks.last_mut().unwrap().output = Some(Shown { first, end }),
                tag if tag.starts_with("sh,norun") => skipped += 1,
                _ => {}
            }
            follows = tag == "sh";
            number = end + 1;
        }
        Self { name, lines, blocks, skipped }
    }

    /// The differences between the output that the page shows for a block and the actual one.
    pub(super) fn difference(&self, block: &Block, actual: &str) -> Option<String> {
        let statuses = block.commands.lines().filter_map(promised_status);
        let answered = actual.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")?.split(' ').next());
        let (statuses, answered): (Vec<String>, Vec<&str>) = (statuses.collect(), answered.collect());
        if !statuses.is_empty() && statuses != answered {
            return Some(format!("{answered:?} and not {statuses:?}"));
        }
        let Some(shown) = block.output else {
            return (!actual.trim().is_empty())
                .then(|| format!("the page does not show what is printed:\n{actual}"));
        };
        let expected: Vec<String> =
            self.lines[shown.first..shown.end].iter().map(|line| normal(line)).collect();
        let got: Vec<String> = actual.trim_end().lines().map(normal).collect();
        (!lines_match(&expected, &got))
            .then(|| format!("shown:\n{}\nprinted:\n{actual}", self.lines[shown.first..shown.end].join("\n")))
    }

    /// Updates the output that the page shows for these blocks, given by their number in descending order.
    pub(super) fn rewrite(mut self, outputs: &[(usize, String)]) {
        for (number, actual) in outputs {
            if let Some(shown) = self.blocks[*number].output {
                let actual: Vec<&str> = actual.trim_end().lines().map(str::trim_end).collect();
                let lines = updated(&self.lines[shown.first..shown.end], &actual);
                self.lines.splice(shown.first..shown.end, lines);
            }
        }
        let path: PathBuf = paths::root().join(self.name);
        fs::write(path, self.lines.join("\n") + "\n").unwrap();
    }
}

/// The status in the comment behind a call, such as `# 403`.
fn promised_status(line: &str) -> Option<String> {
    let (_, comment) = line.strip_prefix("curl -i")?.split_once("# ")?;
    Some(comment.chars().take_while(char::is_ascii_digit).collect())
}

/// A line without what differs in each run: identifiers, times, numbers and the width of columns. Statuses stay.
fn normal(line: &str) -> String {
    let line = line.trim();
    if line.starts_with("HTTP/") || line.chars().all(|character| character.is_ascii_digit()) {
        return line.to_owned();
    }
    let (mut normal, mut word) = (String::new(), String::new());
    for character in line.chars().chain([' ']) {
        if character.is_whitespace() || SEPARATORS.contains(&character) {
            normal.push_str(&normal_word(&word));
            word.clear();
            if !(character.is_whitespace() && normal.ends_with(' ')) {
                normal.push(character);
            }
        } else {
            word.push(character);
        }
    }
    normal.trim_end().to_owned()
}

fn normal_word(word: &str) -> String {
    if CALENDAR.contains(&word) {
        return "#".to_owned();
    }
    // The status in a problem document.
    let is_status = word.len() == 4 && word.starts_with([':']) && word[1..].parse::<u16>().is_ok();
    if is_status || word.contains(ANYTHING) || !word.contains(|character: char| character.is_ascii_digit()) {
        return word.to_owned();
    }
    "#".to_owned()
}

/// The shown lines with the printed ones in place of those that differ. Lines that match stay as they are shown, and so do
/// the places of omitted lines.
fn updated(shown: &[String], printed: &[&str]) -> Vec<String> {
    let expected: Vec<String> = shown.iter().map(|line| normal(line)).collect();
    let actual: Vec<String> = printed.iter().map(|line| normal(line)).collect();
    let (mut lines, mut from) = (Vec::new(), (0, 0));
    for (one, other) in common(&expected, &actual).into_iter().chain([(shown.len(), printed.len())]) {
        let (before, between) = (&shown[from.0..one], &printed[from.1..other]);
        match before.iter().position(|line| line == ANYTHING) {
            None => lines.extend(between.iter().map(|line| (*line).to_owned())),
            Some(place) => {
                let after = before.len() - place - 1;
                let head = between.iter().take(place);
                lines.extend(head.map(|line| (*line).to_owned()));
                lines.push(ANYTHING.to_owned());
                let rest = between.get(place..).unwrap_or_default();
                lines.extend(rest[rest.len().saturating_sub(after)..].iter().map(|line| (*line).to_owned()));
            }
        }
        lines.extend(shown.get(one).cloned());
        from = (one + 1, other + 1);
    }
    lines
}

/// The positions of the longest sequence of lines that match in both.
fn common(expected: &[String], actual: &[String]) -> Vec<(usize, usize)> {
    let matches =
        |one: usize, other: usize| expected[one] != ANYTHING && line_matches(&expected[one], &actual[other]);
    let mut lengths = vec![vec![0; actual.len() + 1]; expected.len() + 1];
    for one in (0..expected.len()).rev() {
        for other in (0..actual.len()).rev() {
            lengths[one][other] = if matches(one, other) {
                lengths[one + 1][other + 1] + 1
            } else {
                lengths[one + 1][other].max(lengths[one][other + 1])
            };
        }
    }
    let (mut pairs, mut one, mut other) = (Vec::new(), 0, 0);
    while one < expected.len() && other < actual.len() {
        if matches(one, other) {
            pairs.push((one, other));
            (one, other) = (one + 1, other + 1);
        } else if lengths[one + 1][other] >= lengths[one][other + 1] {
            one += 1;
        } else {
            other += 1;
        }
    }
    pairs
}

fn lines_match(expected: &[String], actual: &[String]) -> bool {
    match expected.split_first() {
        None => actual.is_empty(),
        Some((line, rest)) if line == ANYTHING => {
            (0..=actual.len()).any(|skipped| lines_match(rest, &actual[skipped..]))
        }
        Some((line, rest)) => actual
            .split_first()
            .is_some_and(|(first, tail)| line_matches(line, first) && lines_match(rest, tail)),
    }
}

fn line_matches(expected: &str, actual: &str) -> bool {
    let Some((beginning, rest)) = expected.split_once(ANYTHING) else { return expected == actual };
    let Some(mut actual) = actual.strip_prefix(beginning) else { return false };
    let mut parts: Vec<&str> = rest.split(ANYTHING).collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some((_, tail)) = actual.split_once(part) else { return false };
        actual = tail;
    }
    actual.ends_with(end)
}

#[test]
fn output_is_compared_without_what_differs_in_each_run() {
    let matches = |shown: &str, printed: &str| {
        let lines = |text: &str| text.lines().map(normal).collect::<Vec<_>>();
        lines_match(&lines(shown), &lines(printed))
    };
    assert!(matches("revoked after 1 ms.", "revoked after 23 ms."));
    assert!(matches(
        " a  01a2-beef-cafe  2026-11-30T11:28:58.688Z",
        " a  0beef-feed-a1  2027-01-30T11:28:58.688Z"
    ));
    assert!(matches("date: Mon, 30 Nov 2026 11:30:08 GMT", "date: Tue, 01 Dec 2026 03:06:02 GMT"));
    assert!(matches("a …   b", "a xyz b") && matches("a\n…\nb", "a\nb") && matches("a\n…\nb", "a\n1\n2\nb"));
    for (shown, printed) in [
        ("200", "401"),
        ("HTTP/1.1 200 OK", "HTTP/1.1 401 Unauthorized"),
        (r#"{"status":403,"x":1}"#, r#"{"status":401,"x":1}"#),
        ("is revoked", "is active"),
        ("a", "a\nb"),
        ("a\nb", "a"),
        ("a … c", "a b d"),
    ] {
        assert!(!matches(shown, printed), "{shown}: {printed}");
    }
}

#[test]
fn an_update_keeps_what_matches_and_what_is_omitted() {
    let update = |shown: &str, printed: &str| {
        let shown: Vec<String> = shown.lines().map(str::to_owned).collect();
        updated(&shown, &printed.lines().collect::<Vec<_>>()).join("\n")
    };
    assert_eq!(update("took 1 ms\nold", "took 2 ms\nnew"), "took 1 ms\nnew");
    assert_eq!(update("old\n…\nend", "new\na\nb\nend"), "new\n…\nend");
    assert_eq!(update("a\n…\nold", "a\n1\n2\nnew"), "a\n…\nnew");
    assert_eq!(update("x …  1", "x abcd  2\nmore"), "x …  1\nmore");
    assert_eq!(update("a\n…", "a"), "a\n…");
}
