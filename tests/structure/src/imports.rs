//! The imports between the files of a crate, derived from the paths in their text.
//!
//! Paths that begin with `crate`, `self` or `super` are followed as far as they name modules. Test modules at the end of a
//! file do not count, and neither do comments. A `mod` declaration alone is not an import.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::SourceFile;

/// A module of a crate, and the file that contains it.
#[derive(Clone, Debug)]
pub struct Module {
    /// Its file, from the root of the repository.
    pub file: PathBuf,
    /// Its path in the crate, without `crate`.
    pub path: Vec<String>,
    /// Its text without tests and comments.
    code: String,
}

/// The modules of one crate.
#[derive(Debug)]
pub struct Modules {
    modules: Vec<Module>,
    by_path: BTreeMap<Vec<String>, usize>,
}

// === impl Modules ===

impl Modules {
    /// The modules below `folder`, a crate's `src`.
    pub fn of_crate(folder: &Path, files: &[SourceFile]) -> Self {
        let mut modules = Vec::new();
        for file in files {
            let Ok(inside) = file.path.strip_prefix(folder) else { continue };
            if inside.starts_with("bin") {
                continue;
            }
            modules.push(Module {
                file: file.path.clone(),
                path: module_path(inside),
                code: code(&file.text),
            });
        }
        let by_path =
            modules.iter().enumerate().map(|(index, module)| (module.path.clone(), index)).collect();
        Self { modules, by_path }
    }

    /// The modules, in the order of [`Self::edges`].
    pub fn all(&self) -> &[Module] {
        &self.modules
    }

    /// For each module the modules that it imports from.
    pub fn edges(&self) -> Vec<Vec<usize>> {
        let edges = |(index, module): (usize, &Module)| {
            let mut targets: Vec<usize> =
                paths(&module.code).iter().filter_map(|path| self.resolve(&module.path, path)).collect();
            targets.retain(|target| *target != index);
            targets.sort_unstable();
            targets.dedup();
            targets
        };
        self.modules.iter().enumerate().map(edges).collect()
    }

    /// The module of a path, as far as its segments name modules.
    fn resolve(&self, from: &[String], path: &[String]) -> Option<usize> {
        let mut place = match path.first()?.as_str() {
            "crate" => Vec::new(),
            _ => from.to_vec(),
        };
        for segment in path {
            match segment.as_str() {
                "crate" | "self" => {}
                "super" => {
                    place.pop()?;
                }
                name => {
                    let mut deeper = place.clone();
                    deeper.push(name.to_owned());
                    if !self.by_path.contains_key(&deeper) {
                        break;
                    }
                    place = deeper;
                }
            }
        }
        self.by_path.get(&place).copied()
    }
}

/// The path of a module in its crate, by its file.
fn module_path(inside: &Path) -> Vec<String> {
    let mut path: Vec<String> =
        inside.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if path.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        path.pop();
    }
    path
}

/// The relevant part of a file: everything before its tests, without comments.
fn code(text: &str) -> String {
    let body = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let lines = body.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// All paths in a text that begin with `crate`, `self` or `super`; groups are taken apart.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for start in ["crate::", "self::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            read(&code[at..], &mut Vec::new(), &mut found);
        }
    }
    found
}

/// Parses a path with its groups, and returns the rest of the text.
fn read<'t>(text: &'t str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'t str {
    let depth = prefix.len();
    let mut rest = text.trim_start();
    loop {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if !name.is_empty() {
            prefix.push(name.to_owned());
        }
        rest = after;
        let Some(deeper) = rest.strip_prefix("::") else {
            found.push(prefix.clone());
            break;
        };
        rest = deeper.trim_start();
        if let Some(mut group) = rest.strip_prefix('{') {
            loop {
                group = read(group, prefix, found).trim_start();
                group = match group.strip_prefix(',') {
                    Some(next) if !next.trim_start().starts_with('}') => next,
                    Some(next) => next.trim_start(),
                    None => break,
                };
                if group.starts_with('}') {
                    break;
                }
            }
            rest = group.strip_prefix('}').unwrap_or(group);
            break;
        }
        if !rest.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            found.push(prefix.clone());
            break;
        }
    }
    prefix.truncate(depth);
    // A renamed import: the new name is not part of the path.
    match rest.trim_start().strip_prefix("as ") {
        Some(renamed) => renamed.trim_start().trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'),
        None => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(code: &str) -> Vec<String> {
        paths(code).iter().map(|path| path.join("::")).collect()
    }

    #[test]
    fn groups_are_taken_apart() {
        let found = joined("use crate::a::{b::C, d as e, self};\nfn f() { super::g::h(); }");
        assert_eq!(found, ["crate::a::b::C", "crate::a::d", "crate::a::self", "super::g::h"]);
    }

    #[test]
    fn comments_and_tests_do_not_count() {
        let text = "// use crate::a;\nuse crate::b;\n#[cfg(test)]\nmod tests {\n    use crate::c;\n}\n";
        assert_eq!(joined(&code(text)), ["crate::b"]);
    }

    #[test]
    fn files_that_import_each_other_are_found() {
        let file = |path: &str, text: &str| SourceFile { path: path.into(), text: text.to_owned() };
        let files = [
            file("x/src/lib.rs", "mod a;\nmod b;"),
            file("x/src/a.rs", "use crate::b::B;"),
            file("x/src/b/mod.rs", "use super::a::A;\nuse self::c::C;"),
            file("x/src/b/c.rs", "use std::fmt;"),
        ];
        let modules = Modules::of_crate(Path::new("x/src"), &files);
        assert_eq!(modules.edges(), [vec![], vec![2], vec![1, 3], vec![]]);
    }
}
