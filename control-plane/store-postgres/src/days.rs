//! The days that a read needs. A read that does not state them locks all partitions with all indexes: a thousand locks for 90
//! days, of the 6,400 that a server has by default, and the time to plan for them.

use std::ops::RangeInclusive;

use omniflow_policy::time::UnixMillis;
use omniflow_store::Result;
use omniflow_store::encoding::{Columns, to_millis};

use crate::database::Database;
use crate::partitions::{day_of, end_of, start_of};

/// The most days that are read at once.
const MAX_WINDOW: usize = 16;

/// The times of some days, in milliseconds since 1970: from the first, inclusive, to the second, exclusive.
pub(crate) type Times = (i64, i64);

impl Database {
    /// The days with records that began in `from..to`, newest first.
    pub(crate) async fn days(&self, from: Option<UnixMillis>, to: Option<UnixMillis>) -> Result<Vec<i64>> {
        let query = sqlx::query(
            "SELECT DISTINCT day FROM log_usage WHERE content <> 'payloads' AND records > 0 \
             AND day BETWEEN $1 AND $2 ORDER BY day DESC",
        )
        .bind(from.map_or(0, day_of))
        .bind(to.map_or(i64::MAX, day_of));
        self.reader().await?.rows(query).await?.iter().map(|row| row.column(0)).collect()
    }

    /// The times of all records, or all payloads, with these numbers; `None` if there are none.
    pub(crate) async fn times_of(
        &self,
        numbers: RangeInclusive<i64>,
        is_payloads: bool,
    ) -> Result<Option<Times>> {
        let query = sqlx::query(
            "SELECT min(day), max(day) FROM log_usage \
             WHERE (content = 'payloads') = $1 AND first_record <= $2 AND last_record >= $3",
        )
        .bind(is_payloads)
        .bind(*numbers.end())
        .bind(*numbers.start());
        let row = self.reader().await?.row(query).await?;
        let (first, last): (Option<i64>, Option<i64>) = (row.column(0)?, row.column(1)?);
        Ok(first.zip(last).map(|(first, last)| (to_millis(start_of(first)), to_millis(end_of(last)))))
    }
}

/// Days in the order of a list, in groups: one, two, four and so on. Each has its last and its first day.
pub(crate) fn windows(mut days: &[i64]) -> Vec<(i64, i64)> {
    let (mut windows, mut size) = (Vec::new(), 1);
    while let [last, ..] = days {
        let (window, rest) = days.split_at(size.min(days.len()));
        windows.push((*window.last().unwrap_or(last), *last));
        days = rest;
        size = MAX_WINDOW.min(size * 2);
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_grow() {
        assert_eq!(windows(&[]), []);
        assert_eq!(windows(&[9]), [(9, 9)]);
        assert_eq!(windows(&[9, 8, 6, 5, 4]), [(9, 9), (6, 8), (4, 5)]);
        let days: Vec<_> = (0..60).rev().collect();
        assert_eq!(windows(&days), [(59, 59), (57, 58), (53, 56), (45, 52), (29, 44), (13, 28), (0, 12)]);
    }
}
