//! Durations over time as lines, distinguished by their dashes.

use askama::Template;
use askama::filters::HtmlSafe;

use super::plot::{HEIGHT, Row, STEP, axis};
use crate::format::Micros;

/// Durations over time.
#[derive(Clone, Debug, Template)]
#[template(path = "charts/lines.html")]
pub(crate) struct Lines {
    /// Title, and the caption of the table.
    pub(crate) title: String,
    /// Heading of the labels in the table.
    pub(crate) by: &'static str,
    /// The lines, at most three: solid, dashed, dotted.
    pub(crate) lines: Vec<Line>,
    /// The places on the time axis, in order.
    pub(crate) places: Vec<Place>,
}

/// One line.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Name.
    pub(crate) name: &'static str,
    /// Value over all places, in microseconds.
    pub(crate) overall: Option<u64>,
}

/// One place on the time axis.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Label.
    pub(crate) label: String,
    /// A value for each line, in microseconds; `None` where nothing was measured.
    pub(crate) values: Vec<Option<u64>>,
    /// Target of its link.
    pub(crate) path: Option<String>,
}

impl HtmlSafe for Lines {}

/// A duration, or a dash.
fn duration(value: &Option<u64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| Micros(value).to_string())
}

// === impl Lines ===

impl Lines {
    /// The highest value, in microseconds; at least 1.
    fn highest(&self) -> u64 {
        self.places.iter().flat_map(|place| place.values.iter().flatten()).copied().max().unwrap_or(0).max(1)
    }

    fn width(&self) -> f64 {
        STEP * self.places.len().max(1) as f64
    }

    fn x(&self, place: usize) -> f64 {
        STEP * place as f64
    }

    /// Whether a place is a link. An SVG with the role of an image must not contain links.
    fn has_links(&self) -> bool {
        self.places.iter().any(|place| place.path.is_some())
    }

    /// The SVG path of a line. It breaks where there is no value; a single value between breaks is a dot.
    fn path(&self, line: usize, top: u64) -> String {
        let mut path = String::new();
        let mut is_drawing = false;
        for (number, place) in self.places.iter().enumerate() {
            let Some(value) = place.values.get(line).copied().flatten() else {
                is_drawing = false;
                continue;
            };
            let x = STEP * (number as f64 + 0.5);
            let y = HEIGHT - value.min(top) as f64 / top as f64 * (HEIGHT - 4.0) - 2.0;
            let step = if is_drawing { "L" } else { "M" };
            path.push_str(&format!("{step}{x:.1} {y:.1}"));
            if !is_drawing {
                path.push_str("h0");
            }
            is_drawing = true;
        }
        path
    }

    /// The values of a place with the names of their lines.
    fn named<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = (&'static str, Micros)> + 'a {
        let values = self.lines.iter().zip(&place.values);
        values.filter_map(|(line, value)| Some((line.name, Micros((*value)?))))
    }

    fn axis(&self) -> [&str; 3] {
        axis(&self.places, |place| &place.label)
    }

    fn headings(&self) -> impl Iterator<Item = &'static str> {
        self.lines.iter().map(|line| line.name)
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.places.iter().map(|place| Row {
            label: &place.label,
            path: place.path.as_deref(),
            values: place.values.iter().map(duration).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_where_nothing_is_known_and_stay_in_the_plot() {
        let place = |value: Option<u64>| Place {
            label: "<i>".to_owned(),
            values: vec![value],
            path: Some("/audit?a=1&b=\"".to_owned()),
        };
        let lines = Lines {
            title: "Latency <b>".to_owned(),
            by: "Time",
            lines: vec![Line { name: "median", overall: Some(1_500) }],
            places: [Some(0), Some(2_000), None, Some(1_000)].map(place).to_vec(),
        };
        assert_eq!(lines.path(0, 2_000), "M6.0 118.0h0L18.0 2.0M42.0 60.0h0");
        let html = lines.to_string();
        assert!(
            html.contains("median <strong>1.5 ms</strong>") && html.contains("<td class=\"number\">–</td>")
        );
        assert!(!html.contains("<i>") && !html.contains("<b>") && html.contains("b=&#34;"), "{html}");
    }
}
