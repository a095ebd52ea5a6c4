//! Pages of `docs/reference` with sections that are generated from code.
//!
//! A page is written by hand, except for the text between a line `<!-- generated: NAME -->` and the next line
//! `<!-- end -->`. A test generates that text and compares it with the page; `UPDATE_GOLDEN=1` writes it into the page.

use std::collections::BTreeMap;
use std::fs;

use super::{compare, root};

const BEGIN: &str = "<!-- generated: ";
const END: &str = "<!-- end -->";

/// Compares the generated sections of a page with these, by name. The page must have each of them once, and no other.
pub fn check(name: &str, sections: &[(String, String)]) {
    let path = root().join("docs/reference").join(name);
    let page = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    match replace(&page, sections) {
        Ok(text) => compare(&path, &text),
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

/// The first block of code in this language on a page.
pub fn example(page: &str, language: &str) -> String {
    let text = fs::read_to_string(root().join("docs/reference").join(page)).unwrap();
    let (_, rest) = text.split_once(&format!("```{language}\n")).unwrap();
    rest.split("```").next().unwrap().to_owned()
}

fn replace(page: &str, sections: &[(String, String)]) -> Result<String, String> {
    let mut left: BTreeMap<&str, &str> =
        sections.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let mut text = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        text.push_str(&format!("{line}\n"));
        let Some(name) = line.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(" -->")) else {
            continue;
        };
        let section = left
            .remove(name)
            .ok_or_else(|| format!("{line}: nothing generates this, or it is there twice"))?;
        if !lines.by_ref().any(|line| line == END) {
            return Err(format!("{line}: the line {END} is missing"));
        }
        text.push_str(&format!("\n{}\n\n{END}\n", section.trim()));
    }
    match left.keys().next() {
        None => Ok(text),
        Some(name) => Err(format!("add these lines where it belongs:\n{BEGIN}{name} -->\n{END}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sections(names: &[&str]) -> Vec<(String, String)> {
        names.iter().map(|name| ((*name).to_owned(), format!("text of {name}\n"))).collect()
    }

    #[test]
    fn only_generated_sections_are_replaced() {
        let page = "# A\n<!-- generated: a -->\nold\n\nold\n<!-- end -->\nbetween\n<!-- generated: b -->\n<!-- end -->\n";
        let expected = "# A\n<!-- generated: a -->\n\ntext of a\n\n<!-- end -->\nbetween\n\
                        <!-- generated: b -->\n\ntext of b\n\n<!-- end -->\n";
        let text = replace(page, &sections(&["a", "b"])).unwrap();
        assert_eq!(text, expected);
        assert_eq!(replace(&text, &sections(&["a", "b"])).unwrap(), expected);
    }

    #[test]
    fn page_must_have_exactly_the_generated_sections() {
        let page = "<!-- generated: a -->\n<!-- end -->\n";
        assert!(replace(page, &sections(&["a", "b"])).unwrap_err().contains("generated: b"));
        assert!(replace(page, &sections(&["b"])).unwrap_err().contains("generated: a"));
        assert!(replace("<!-- generated: a -->\n", &sections(&["a"])).unwrap_err().contains("is missing"));
    }
}
