//! Charts as SVG that is readable without colour: series differ by pattern or dashes, values stand beside the plot as text
//! and below it in a table.
//!
//! The patterns are defined in the layout. A plot contains no text, because it is stretched to the available width; its labels
//! are HTML beside it. The markup is in `templates/charts/`; these modules compute the geometry.

mod columns;
mod lines;
mod ranking;

pub(crate) use self::columns::{Column, Columns, Series};
pub(crate) use self::lines::{Line, Lines, Place};
pub(crate) use self::ranking::{Ranking, RankingLine};

/// Height of a plot in its own units. Its width is [`STEP`] for each column or place.
const HEIGHT: f64 = 120.0;
/// Width of a column or place in the plot's own units.
const STEP: f64 = 12.0;

/// A row of the table below a chart.
struct Row<'a> {
    label: &'a str,
    path: Option<&'a str>,
    values: Vec<String>,
}

/// Labels below the plot: of the first, the middle and the last entry.
fn axis<T>(entries: &[T], label: impl Fn(&T) -> &str) -> [&str; 3] {
    let last = entries.len().saturating_sub(1);
    [0, last / 2, last].map(|index| entries.get(index).map_or("", &label))
}
