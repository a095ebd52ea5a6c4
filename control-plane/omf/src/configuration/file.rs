//! Configuration files: TOML, one setting per line.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::setting::Kind;
use super::{FILE_FLAG, FILE_VARIABLE, Origin, Problem, Setting};

/// Reads the settings in the file, with the line of each. Invalid values are omitted and reported. `None` if the file is
/// missing or not TOML.
#[expect(clippy::disallowed_methods, reason = "the configuration is read before the runtime starts")]
pub(super) fn read(
    path: &Path,
    problems: &mut Vec<Problem>,
) -> Option<BTreeMap<Setting, (OsString, Origin)>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            problems.push(Problem(format!(
                "{}: {error}; specify a readable file with --{FILE_FLAG} or {FILE_VARIABLE}",
                path.display()
            )));
            return None;
        }
    };
    let problem_at = |offset: usize, what: &str| {
        Problem(format!("{} line {}: {what}", path.display(), line_at(&text, offset)))
    };
    let (table, errors) = DeTable::parse_recoverable(&text);
    if !errors.is_empty() {
        // After a syntax error, the parser guesses the rest.
        let mut errors: Vec<_> =
            errors.iter().map(|error| (error.span().map_or(0, |span| span.start), error.message())).collect();
        errors.sort_unstable();
        problems.extend(errors.into_iter().map(|(at, what)| {
            let field = field_at(&text, at).map(|name| format!("{name}: ")).unwrap_or_default();
            problem_at(at, &format!("{field}invalid TOML: {what}"))
        }));
        return None;
    }
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut given = BTreeMap::new();
    for (key, value) in entries {
        let at = key.span().start;
        let Some(setting) = Setting::ALL.into_iter().find(|setting| setting.name() == key.get_ref()) else {
            problems.push(problem_at(at, &unknown(key.get_ref())));
            continue;
        };
        match written(setting, value.get_ref()) {
            Some(value) => {
                let origin = Origin::File { path: path.to_owned(), line: line_at(&text, at) };
                given.insert(setting, (from_folder_of(path, setting, value), origin));
            }
            None => problems.push(problem_at(at, &wrong_kind(setting))),
        }
    }
    Some(given)
}

fn unknown(name: &str) -> String {
    if name == FILE_FLAG {
        return format!("{name}: cannot be set in a file; use --{FILE_FLAG} or {FILE_VARIABLE}");
    }
    let names = Setting::ALL.map(Setting::name).join(", ");
    format!("{name}: unknown setting; expected one of {names}")
}

fn wrong_kind(setting: Setting) -> String {
    let name = setting.name();
    let kind = if setting.kind() == Kind::Number { "an integer" } else { "a quoted string" };
    format!("{name}: not {kind}; use {name} = {}", setting.example())
}

/// Converts the value to the text of a flag. `None` if it has another type than the setting.
fn written(setting: Setting, value: &DeValue<'_>) -> Option<String> {
    match (setting.kind(), value) {
        (Kind::Text | Kind::Path, DeValue::String(text)) => Some(text.to_string()),
        (Kind::Number, DeValue::Integer(number)) => {
            Some(i128::from_str_radix(number.as_str(), number.radix()).ok()?.to_string())
        }
        _ => None,
    }
}

fn from_folder_of(path: &Path, setting: Setting, value: String) -> OsString {
    match path.parent() {
        // An empty path is invalid. Joined, it would become the directory itself.
        Some(folder) if setting.kind() == Kind::Path && !value.is_empty() => folder.join(value).into(),
        _ => value.into(),
    }
}

/// The setting at the beginning of the line that contains this byte.
fn field_at(text: &str, offset: usize) -> Option<&'static str> {
    let line = text.lines().nth(line_at(text, offset) - 1)?;
    let (name, _) = line.split_once('=')?;
    Setting::ALL.map(Setting::name).into_iter().find(|setting| *setting == name.trim())
}

/// The line that contains this byte, counted from 1.
fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
