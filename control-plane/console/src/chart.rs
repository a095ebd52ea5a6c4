//! Charts, drawn here: SVG that is read without colour, by pattern and direct text, with its table behind.
//!
//! The patterns are defined in the layout. A plot has no text in it: it is stretched to the width there is, and labels stand beside it in the page's own size.

mod lines;

use std::fmt;

use askama::filters::HtmlSafe;

pub(crate) use self::lines::{Line, Lines, Place};
use super::format::Count;

/// The height of a plot, in its own units. Its width is that of all columns, [`COLUMN`] each.
const HEIGHT: f64 = 120.0;
/// The width of a column and of the bar in it.
const COLUMN: f64 = 12.0;
const BAR: f64 = 9.0;

/// Columns of stacked values over time.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    /// What it shows, and the caption of its table.
    pub(crate) title: String,
    /// What the columns are, as the head of the table.
    pub(crate) by: &'static str,
    /// What is stacked, from below. There are patterns for four.
    pub(crate) series: Vec<Series>,
    /// The columns in their order.
    pub(crate) columns: Vec<Column>,
}

/// What one pattern stands for.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// Its name.
    pub(crate) name: &'static str,
    /// The pattern: `good`, `warn`, `bad` or `other`.
    pub(crate) pattern: &'static str,
}

/// One column.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// What it stands for: a day, an hour.
    pub(crate) label: String,
    /// A value for each series.
    pub(crate) values: Vec<u64>,
    /// Where it leads when it is chosen.
    pub(crate) path: Option<String>,
}

/// The largest of something, each with a bar.
#[derive(Clone, Debug)]
pub(crate) struct Ranking {
    /// What it shows.
    pub(crate) title: &'static str,
    /// What the lines are, as the head of the table.
    pub(crate) by: &'static str,
    /// The lines, largest first.
    pub(crate) lines: Vec<RankingLine>,
}

/// One line of a ranking.
#[derive(Clone, Debug)]
pub(crate) struct RankingLine {
    /// What it stands for.
    pub(crate) label: String,
    /// How much.
    pub(crate) value: u64,
    /// What there is to say of it besides.
    pub(crate) note: Option<String>,
    /// Where it leads when it is chosen.
    pub(crate) path: Option<String>,
}

impl HtmlSafe for Columns {}
impl HtmlSafe for Ranking {}

/// Text that may hold anything, in HTML.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => write!(f, "{other}")?,
            }
        }
        Ok(())
    }
}

// === impl Columns ===

impl Columns {
    fn highest(&self) -> u64 {
        self.columns.iter().map(|column| column.values.iter().sum()).max().unwrap_or(0)
    }

    fn total(&self, series: usize) -> u64 {
        self.columns.iter().filter_map(|column| column.values.get(series)).sum()
    }

    fn plot(&self, f: &mut fmt::Formatter<'_>, top: u64) -> fmt::Result {
        let width = COLUMN * self.columns.len() as f64;
        let title = Escaped(&self.title);
        // An image has nothing in it that can be chosen.
        let leads = self.columns.iter().any(|column| column.path.is_some());
        let role = if leads { "group" } else { "img" };
        write!(
            f,
            "<svg class=\"plot\" role=\"{role}\" aria-label=\"{title}\" viewBox=\"0 0 {width} {HEIGHT}\" preserveAspectRatio=\"none\">"
        )?;
        for part in [0.25, 0.5, 0.75] {
            let y = HEIGHT * part;
            write!(f, "<line class=\"grid\" x1=\"0\" x2=\"{width}\" y1=\"{y}\" y2=\"{y}\"/>")?;
        }
        for (place, column) in self.columns.iter().enumerate() {
            self.column(f, COLUMN * place as f64, column, top)?;
        }
        f.write_str("</svg>")
    }

    fn column(&self, f: &mut fmt::Formatter<'_>, x: f64, column: &Column, top: u64) -> fmt::Result {
        if let Some(path) = &column.path {
            write!(f, "<a href=\"{}\" tabindex=\"-1\">", Escaped(path))?;
        }
        write!(f, "<g><title>{}", Escaped(&column.label))?;
        for (series, value) in self.series.iter().zip(&column.values) {
            write!(f, "\n{}: {}", series.name, Count(*value))?;
        }
        write!(
            f,
            "</title><rect class=\"reach\" x=\"{x}\" y=\"0\" width=\"{COLUMN}\" height=\"{HEIGHT}\"/>"
        )?;
        let mut y = HEIGHT;
        for (series, value) in self.series.iter().zip(&column.values) {
            if *value == 0 {
                continue;
            }
            // What is there is seen, however little it is.
            let height = (*value as f64 / top as f64 * HEIGHT).max(1.0);
            y -= height;
            let (left, y) = (x + (COLUMN - BAR) / 2.0, y.max(0.0));
            let pattern = series.pattern;
            write!(
                f,
                "<rect class=\"s-{pattern}\" fill=\"url(#p-{pattern})\" x=\"{left:.2}\" y=\"{y:.2}\" width=\"{BAR}\" height=\"{height:.2}\"/>"
            )?;
        }
        f.write_str(if column.path.is_some() { "</g></a>" } else { "</g>" })
    }

    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "<details class=\"data\"><summary>Show as a table</summary><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table><caption class=\"unseen\">{0}</caption><thead><tr><th scope=\"col\">{1}</th>",
            Escaped(&self.title),
            self.by
        )?;
        for series in &self.series {
            write!(f, "<th scope=\"col\" class=\"number\">{}</th>", series.name)?;
        }
        f.write_str("</tr></thead><tbody>")?;
        for column in &self.columns {
            f.write_str("<tr><th scope=\"row\">")?;
            match &column.path {
                Some(path) => write!(f, "<a href=\"{}\">{}</a>", Escaped(path), Escaped(&column.label))?,
                None => write!(f, "{}", Escaped(&column.label))?,
            }
            f.write_str("</th>")?;
            for value in &column.values {
                write!(f, "<td class=\"number\">{}</td>", Count(*value))?;
            }
            f.write_str("</tr>")?;
        }
        f.write_str("</tbody></table></div></details>")
    }
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let top = self.highest().max(1);
        f.write_str("<figure class=\"chart\"><ul class=\"key\">")?;
        for (place, series) in self.series.iter().enumerate() {
            write!(
                f,
                "<li><svg class=\"swatch\" width=\"14\" height=\"14\" aria-hidden=\"true\"><rect class=\"s-{0}\" fill=\"url(#p-{0})\" width=\"14\" height=\"14\" rx=\"3\"/></svg>{1} <strong>{2}</strong></li>",
                series.pattern,
                series.name,
                Count(self.total(place))
            )?;
        }
        write!(f, "</ul><div class=\"plotted\"><span class=\"top\">{}</span>", Count(top))?;
        self.plot(f, top)?;
        f.write_str("</div><div class=\"along\" aria-hidden=\"true\">")?;
        let last = self.columns.len().saturating_sub(1);
        for place in [0, last / 2, last] {
            let label = self.columns.get(place).map_or("", |column| column.label.as_str());
            write!(f, "<span>{}</span>", Escaped(label))?;
        }
        f.write_str("</div>")?;
        self.table(f)?;
        f.write_str("</figure>")
    }
}

// === impl Ranking ===

impl fmt::Display for Ranking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let top = self.lines.iter().map(|line| line.value).max().unwrap_or(0).max(1);
        write!(
            f,
            "<table class=\"ranking\"><caption class=\"unseen\">{}</caption><thead class=\"unseen\"><tr><th scope=\"col\">{}</th><th scope=\"col\">Calls</th></tr></thead><tbody>",
            self.title, self.by
        )?;
        for line in &self.lines {
            let share = line.value as f64 / top as f64 * 100.0;
            f.write_str("<tr><th scope=\"row\"><span class=\"what\">")?;
            match &line.path {
                Some(path) => write!(f, "<a href=\"{}\">{}</a>", Escaped(path), Escaped(&line.label))?,
                None => write!(f, "{}", Escaped(&line.label))?,
            }
            if let Some(note) = &line.note {
                write!(f, " <span class=\"badge warn\">{}</span>", Escaped(note))?;
            }
            write!(
                f,
                "</span><svg class=\"bar\" viewBox=\"0 0 100 4\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect class=\"track\" width=\"100\" height=\"4\"/><rect class=\"s-good\" width=\"{share:.1}\" height=\"4\"/></svg></th><td class=\"number\">{}</td></tr>",
                Count(line.value)
            )?;
        }
        f.write_str("</tbody></table>")
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
            series: vec![series("answered", "good"), series("refused", "warn")],
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
            html.contains("answered <strong>1,500</strong>") && html.contains("refused <strong>3</strong>")
        );
        assert!(html.contains("<td class=\"number\">1,500</td>"));
        assert!(!html.contains("<script>") && !html.contains("<b>"), "{html}");
        assert!(html.contains("href=\"/audit?a=&quot;1&amp;b=1\""));
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
