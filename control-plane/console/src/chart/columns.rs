//! Columns of stacked values over time.

use askama::Template;
use askama::filters::HtmlSafe;

use super::plot::{HEIGHT, Row, STEP, axis};
use crate::format::Count;

/// Width of the bar in a column, and the space to its left, in the plot's own units.
const BAR: f64 = 9.0;
const BAR_INSET: f64 = (STEP - BAR) / 2.0;

/// Columns of stacked values over time.
#[derive(Clone, Debug, Template)]
#[template(path = "charts/columns.html")]
pub(crate) struct Columns {
    /// Title, and the caption of the table.
    pub(crate) title: String,
    /// Heading of the labels in the table.
    pub(crate) by: &'static str,
    /// The stacked series, from below; at most four, one for each pattern.
    pub(crate) series: Vec<Series>,
    /// The columns, in order.
    pub(crate) columns: Vec<Column>,
}

/// A series of values, drawn in one pattern.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// Name.
    pub(crate) name: &'static str,
    /// Pattern: `good`, `warn`, `bad` or `other`.
    pub(crate) pattern: &'static str,
}

/// One column.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// Label, such as a day or an hour.
    pub(crate) label: String,
    /// A value for each series.
    pub(crate) values: Vec<u64>,
    /// Target of its link.
    pub(crate) path: Option<String>,
}

/// The part of a column that shows one series.
struct Bar {
    pattern: &'static str,
    y: f64,
    height: f64,
}

impl HtmlSafe for Columns {}

// === impl Columns ===

impl Columns {
    /// The highest column; at least 1.
    fn highest(&self) -> u64 {
        self.columns.iter().map(|column| column.values.iter().sum()).max().unwrap_or(0).max(1)
    }

    fn total(&self, series: usize) -> Count {
        Count(self.columns.iter().filter_map(|column| column.values.get(series)).sum())
    }

    fn width(&self) -> f64 {
        STEP * self.columns.len() as f64
    }

    fn x(&self, column: usize) -> f64 {
        STEP * column as f64
    }

    /// Whether a column is a link. An SVG with the role of an image must not contain links.
    fn has_links(&self) -> bool {
        self.columns.iter().any(|column| column.path.is_some())
    }

    /// The values of a column with the names of their series.
    fn named<'a>(&'a self, column: &'a Column) -> impl Iterator<Item = (&'static str, Count)> + 'a {
        self.series.iter().zip(&column.values).map(|(series, value)| (series.name, Count(*value)))
    }

    /// The bars of a column, from below. A value above 0 is at least one unit high, so that it is visible.
    fn bars(&self, column: &Column, top: u64) -> Vec<Bar> {
        let mut y = HEIGHT;
        let values = self.series.iter().zip(&column.values).filter(|(_, value)| **value > 0);
        values
            .map(|(series, value)| {
                let height = (*value as f64 / top as f64 * HEIGHT).max(1.0);
                y -= height;
                Bar { pattern: series.pattern, y: y.max(0.0), height }
            })
            .collect()
    }

    fn axis(&self) -> [&str; 3] {
        axis(&self.columns, |column| &column.label)
    }

    fn headings(&self) -> impl Iterator<Item = &'static str> {
        self.series.iter().map(|series| series.name)
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.columns.iter().map(|column| Row {
            label: &column.label,
            path: column.path.as_deref(),
            values: column.values.iter().map(|value| Count(*value).to_string()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(values: &[[u64; 2]]) -> Columns {
        let series = |name, pattern| Series { name, pattern };
        Columns {
            title: "Calls <script>".to_owned(),
            by: "Day",
            series: vec![series("allowed", "good"), series("refused", "warn")],
            columns: values
                .iter()
                .enumerate()
                .map(|(day, values)| Column {
                    label: format!("<b>{day}"),
                    values: values.to_vec(),
                    path: Some(format!("/audit?a=\"{day}&b=1")),
                })
                .collect(),
        }
    }

    #[test]
    fn a_chart_has_its_numbers_in_text_and_escapes_them() {
        let html = columns(&[[0, 0], [1_500, 3]]).to_string();
        assert!(
            html.contains("allowed <strong>1,500</strong>") && html.contains("refused <strong>3</strong>")
        );
        assert!(html.contains("<td class=\"number\">1,500</td>"));
        assert!(!html.contains("<script>") && !html.contains("<b>"), "{html}");
        assert!(html.contains("href=\"/audit?a=&#34;1&#38;b=1\""));
        assert_eq!(html.matches("class=\"s-good\"").count(), 2, "one swatch, one bar");
    }

    #[test]
    fn bars_are_as_high_as_their_share_and_never_out_of_the_plot() {
        let html = columns(&[[1_000_000, 1], [500_000, 0]]).to_string();
        assert!(html.contains("height=\"60.00\""), "{html}");
        for part in html.split(" y=\"").skip(1) {
            let y: f64 = part.split('"').next().unwrap().parse().unwrap();
            assert!((0.0..=HEIGHT).contains(&y), "{y}");
        }
        assert!(columns(&[]).to_string().contains("viewBox=\"0 0 0 120\""));
    }
}
