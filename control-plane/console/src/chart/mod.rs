//! Charts as SVG that are readable without color: series differ by pattern or dashes, and a table below the plot
//! contains all values.
//!
//! The patterns are defined in the layout. A plot contains no text, because it is stretched to the available width; its labels
//! are HTML beside it. The markup is in `templates/charts/`; these modules compute the geometry.

mod columns;
mod lines;
mod plot;
mod ranking;

pub(crate) use self::columns::{Column, Columns, Series};
pub(crate) use self::lines::{Line, Lines, Place};
pub(crate) use self::ranking::{Ranking, RankingLine};
