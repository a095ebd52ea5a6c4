//! Markdown of generated sections.

/// A table. In cells, vertical bars are escaped, and line breaks become spaces.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let rule = format!("|{}\n", "---|".repeat(head.len()));
    let rows = rows
        .iter()
        .map(|cells| row(cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect()));
    row(head.iter().map(|&cell| cell.to_owned()).collect()) + &rule + &rows.collect::<String>()
}

/// Plain text as Markdown: options, variables and placeholders become code, so that nothing in them is markup.
pub fn text(text: &str) -> String {
    let mut is_code = false;
    let words = text.split(' ').map(|word| {
        let was_code = is_code;
        is_code ^= word.matches('`').count() % 2 == 1;
        let core =
            word.trim_start_matches(['(', '[', '"']).trim_end_matches([')', ']', '"', '.', ',', ';', ':']);
        let is_option = core.starts_with("--") && core.len() > 2;
        let is_variable = core.starts_with("OMF_");
        let is_technical = is_option || is_variable || core.contains(['<', '*', '{']) || core.contains("://");
        match is_technical && !was_code && !word.contains('`') {
            true => word.replacen(core, &format!("`{core}`"), 1),
            false => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stay_in_their_row() {
        let table = table(&["a", "b"], &[vec!["x|y".to_owned(), "two\nlines".to_owned()]]);
        assert_eq!(table, "| a | b |\n|---|---|\n| x\\|y | two lines |\n");
    }

    #[test]
    fn options_variables_and_placeholders_become_code() {
        for (text, expected) in [
            ("Wait, unless --wait is given.", "Wait, unless `--wait` is given."),
            ("(see OMF_URL)", "(see `OMF_URL`)"),
            ("in <data-dir>/admin-token.", "in `<data-dir>/admin-token`."),
            ("as `omf serve --listen A` does", "as `omf serve --listen A` does"),
            ("a - b", "a - b"),
        ] {
            assert_eq!(super::text(text), expected);
        }
    }
}
