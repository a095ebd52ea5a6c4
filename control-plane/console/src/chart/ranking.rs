//! A ranking: the entries with the largest values, each with a bar.

use askama::Template;
use askama::filters::HtmlSafe;

use crate::format::Count;

/// The entries with the largest values, each with a bar.
#[derive(Clone, Debug, Template)]
#[template(path = "charts/ranking.html")]
pub(crate) struct Ranking {
    /// Title.
    pub(crate) title: &'static str,
    /// Heading of the labels.
    pub(crate) by: &'static str,
    /// The lines, largest first.
    pub(crate) lines: Vec<RankingLine>,
}

/// One line of a ranking.
#[derive(Clone, Debug)]
pub(crate) struct RankingLine {
    /// Label.
    pub(crate) label: String,
    /// Value.
    pub(crate) value: u64,
    /// A remark, shown as a badge.
    pub(crate) note: Option<String>,
    /// Target of its link.
    pub(crate) path: Option<String>,
}

impl HtmlSafe for Ranking {}

// === impl Ranking ===

impl Ranking {
    /// The value of a line in percent of the largest.
    fn percent(&self, line: &RankingLine) -> f64 {
        let top = self.lines.iter().map(|line| line.value).max().unwrap_or(0).max(1);
        line.value as f64 / top as f64 * 100.0
    }
}
