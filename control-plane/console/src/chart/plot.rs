//! Size, table rows and axis labels of all plots.

/// Height of a plot in its own units. Its width is [`STEP`] for each column or place.
pub(super) const HEIGHT: f64 = 120.0;
/// Width of a column or place in the plot's own units.
pub(super) const STEP: f64 = 12.0;

/// A row of the table below a chart.
pub(super) struct Row<'a> {
    pub(super) label: &'a str,
    pub(super) path: Option<&'a str>,
    pub(super) values: Vec<String>,
}

/// The labels of the first, the middle and the last entry, for the axis below the plot.
pub(super) fn axis<T>(entries: &[T], label: impl Fn(&T) -> &str) -> [&str; 3] {
    let last = entries.len().saturating_sub(1);
    [0, last / 2, last].map(|index| entries.get(index).map_or("", &label))
}
