//! Values over time as lines, distinguished by their dashes and named in the order in which they lie.

use std::fmt;

use askama::filters::HtmlSafe;

use super::{Escaped, HEIGHT};
use crate::format::Micros;

/// The width of a place in the plot's own units.
const STEP: f64 = 12.0;

/// Lengths of time over time.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    /// What it shows, and the caption of its table.
    pub(crate) title: String,
    /// What the places are, as the head of the table.
    pub(crate) by: &'static str,
    /// The lines, at most three: solid, dashed, dotted.
    pub(crate) lines: Vec<Line>,
    /// The places in their order.
    pub(crate) places: Vec<Place>,
}

/// What one line stands for.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its value over all places, in microseconds.
    pub(crate) overall: Option<u64>,
}

/// One place of all lines.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// What it stands for.
    pub(crate) label: String,
    /// A value for each line, in microseconds; none where there is nothing to tell.
    pub(crate) values: Vec<Option<u64>>,
    /// Where it leads when it is chosen.
    pub(crate) path: Option<String>,
}

impl HtmlSafe for Lines {}

// === impl Lines ===

impl Lines {
    fn highest(&self) -> u64 {
        self.places.iter().flat_map(|place| place.values.iter().flatten()).copied().max().unwrap_or(0).max(1)
    }

    fn plot(&self, f: &mut fmt::Formatter<'_>, top: u64) -> fmt::Result {
        let width = STEP * self.places.len().max(1) as f64;
        // An image has nothing in it that can be chosen.
        let role = if self.places.iter().any(|place| place.path.is_some()) { "group" } else { "img" };
        write!(
            f,
            "<svg class=\"plot lines\" role=\"{role}\" aria-label=\"{}\" viewBox=\"0 0 {width} {HEIGHT}\" preserveAspectRatio=\"none\">",
            Escaped(&self.title)
        )?;
        for part in [0.25, 0.5, 0.75] {
            let y = HEIGHT * part;
            write!(f, "<line class=\"grid\" x1=\"0\" x2=\"{width}\" y1=\"{y}\" y2=\"{y}\"/>")?;
        }
        for number in 0..self.lines.len() {
            write!(f, "<path class=\"line-{number}\" d=\"{}\"/>", self.path(number, top))?;
        }
        for (number, place) in self.places.iter().enumerate() {
            self.reach(f, STEP * number as f64, place)?;
        }
        f.write_str("</svg>")
    }

    /// The path of a line, with a break wherever there is nothing to tell, and a dot where it is one place alone.
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

    fn reach(&self, f: &mut fmt::Formatter<'_>, x: f64, place: &Place) -> fmt::Result {
        if let Some(path) = &place.path {
            write!(f, "<a href=\"{}\" tabindex=\"-1\">", Escaped(path))?;
        }
        write!(f, "<g><title>{}", Escaped(&place.label))?;
        for (line, value) in self.lines.iter().zip(&place.values) {
            if let Some(value) = value {
                write!(f, "\n{}: {}", line.name, Micros(*value))?;
            }
        }
        write!(
            f,
            "</title><rect class=\"reach\" x=\"{x}\" y=\"0\" width=\"{STEP}\" height=\"{HEIGHT}\"/></g>"
        )?;
        if place.path.is_some() { f.write_str("</a>") } else { Ok(()) }
    }

    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "<details class=\"data\"><summary>Show as a table</summary><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table><caption class=\"unseen\">{0}</caption><thead><tr><th scope=\"col\">{1}</th>",
            Escaped(&self.title),
            self.by
        )?;
        for line in &self.lines {
            write!(f, "<th scope=\"col\" class=\"number\">{}</th>", line.name)?;
        }
        f.write_str("</tr></thead><tbody>")?;
        for place in &self.places {
            f.write_str("<tr><th scope=\"row\">")?;
            match &place.path {
                Some(path) => write!(f, "<a href=\"{}\">{}</a>", Escaped(path), Escaped(&place.label))?,
                None => write!(f, "{}", Escaped(&place.label))?,
            }
            f.write_str("</th>")?;
            for value in &place.values {
                match value {
                    Some(value) => write!(f, "<td class=\"number\">{}</td>", Micros(*value))?,
                    None => f.write_str("<td class=\"number\">–</td>")?,
                }
            }
            f.write_str("</tr>")?;
        }
        f.write_str("</tbody></table></div></details>")
    }
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let top = self.highest();
        f.write_str("<figure class=\"chart\"><ul class=\"key\">")?;
        for (number, line) in self.lines.iter().enumerate() {
            write!(
                f,
                "<li><svg class=\"stroke lines\" width=\"28\" height=\"10\" viewBox=\"0 0 28 10\" aria-hidden=\"true\"><path class=\"line-{number}\" d=\"M2 5H26\"/></svg>{} <strong>",
                line.name
            )?;
            match line.overall {
                Some(value) => write!(f, "{}", Micros(value))?,
                None => f.write_str("–")?,
            }
            f.write_str("</strong></li>")?;
        }
        write!(f, "</ul><div class=\"plotted\"><span class=\"top\">{}</span>", Micros(top))?;
        self.plot(f, top)?;
        f.write_str("</div><div class=\"along\" aria-hidden=\"true\">")?;
        let last = self.places.len().saturating_sub(1);
        for place in [0, last / 2, last] {
            let label = self.places.get(place).map_or("", |place| place.label.as_str());
            write!(f, "<span>{}</span>", Escaped(label))?;
        }
        f.write_str("</div>")?;
        self.table(f)?;
        f.write_str("</figure>")
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
        assert!(!html.contains("<i>") && !html.contains("<b>") && html.contains("b=&quot;"), "{html}");
    }
}
