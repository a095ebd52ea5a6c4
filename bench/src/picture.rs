//! The chart of the report: the CPU time that each subject adds to a request, as bars with the interquartile range.

use std::fmt::Write as _;

use crate::measure::Outcome;

const WIDTH: f64 = 720.0;
const LABELS: f64 = 130.0;
const FIGURES: f64 = 80.0;
const ROW: f64 = 40.0;

/// The chart as SVG, in colors that are legible on light and dark backgrounds.
pub(crate) fn svg(outcomes: &[Outcome]) -> String {
    let rows: Vec<_> =
        outcomes.iter().filter_map(|outcome| Some((outcome.name.as_str(), outcome.added?))).collect();
    let most = rows.iter().map(|(_, added)| added.high).fold(1.0, f64::max);
    let scale = (WIDTH - LABELS - FIGURES) / most;
    let height = ROW * rows.len() as f64 + 20.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\" \
         font-family=\"sans-serif\" font-size=\"14\" fill=\"#808080\">\n\
         <title>CPU time added per request, in microseconds</title>\n"
    );
    for (index, (name, added)) in rows.iter().enumerate() {
        let top = 10.0 + ROW * index as f64;
        let (x, middle) = (|value: f64| LABELS + value.max(0.0) * scale, top + ROW / 2.0);
        let colour = if *name == "Omniflow Keys" { "#2f81f7" } else { "#909090" };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{name}</text>\n\
             <rect x=\"{LABELS:.0}\" y=\"{:.0}\" width=\"{:.1}\" height=\"{:.0}\" fill=\"{colour}\"/>\n\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.0}\" y2=\"{middle:.0}\" stroke=\"#d29922\" stroke-width=\"3\"/>\n\
             <text x=\"{:.0}\" y=\"{:.0}\">{:.1} µs</text>",
            LABELS - 10.0,
            middle + 5.0,
            top + 6.0,
            added.median.max(0.0) * scale,
            ROW - 12.0,
            x(added.low),
            x(added.high),
            x(added.high) + 8.0,
            middle + 5.0,
            added.median,
        );
    }
    text.push_str("</svg>\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::Spread;

    #[test]
    fn each_subject_that_adds_something_has_its_bar() {
        let spread = |median: f64| Spread { low: median - 1.0, median, high: median + 1.0 };
        let outcome = |name: &str, added| Outcome {
            name: str::to_owned(name),
            what: "",
            cost: spread(25.0),
            added,
            beside: spread(0.0),
            throughput: spread(1.0),
            latency: [1.0; 3],
        };
        let picture = svg(&[outcome("bare", None), outcome("empty", Some(spread(7.5)))]);
        assert_eq!(picture.matches("<rect").count(), 1);
        assert!(picture.contains(">empty<") && picture.contains(">7.5 µs<") && !picture.contains(">bare<"));
        assert!(picture.ends_with("</svg>\n"));
    }
}
