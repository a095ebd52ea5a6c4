//! Numbers of records and gaps, and the partitions of the request log by day.

use std::collections::BTreeSet;

use omniflow_domain::time::{DAY_MS, HOUR_MS};
use omniflow_policy::time::UnixMillis;
use omniflow_store::encoding::{Columns, saturated};
use omniflow_store::{Result, StoreError};

use crate::transaction::PostgresTransaction;

/// 2025-12-31, by whole days since 1970: the day that stands for all times before 2026.
const FIRST_DAY: u64 = 20_453;

/// The numbers that a transaction uses. No other transaction gets them, unless this one is rolled back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    /// The number before that of the first record.
    pub(crate) before_records: i64,
    /// The number before that of the first gap.
    pub(crate) before_gaps: i64,
}

/// The day whose partitions have the records of this time.
pub(crate) fn day_of(time: UnixMillis) -> i64 {
    saturated((time.0 / DAY_MS).max(FIRST_DAY))
}

/// When a day begins.
pub(crate) fn start_of(day: i64) -> UnixMillis {
    let day = day.cast_unsigned();
    UnixMillis(if day > FIRST_DAY { day.saturating_mul(DAY_MS) } else { 0 })
}

/// When a day ends: the beginning of the next one.
pub(crate) fn end_of(day: i64) -> UnixMillis {
    UnixMillis(day.cast_unsigned().saturating_add(1).saturating_mul(DAY_MS))
}

/// The days that need partitions: those of these times, and that of the near future, so that the first batch of a day does
/// not wait for them.
pub(crate) fn days_of(times: impl Iterator<Item = UnixMillis>, heard_at: UnixMillis) -> Vec<i64> {
    let soon = UnixMillis(heard_at.0.saturating_add(HOUR_MS));
    times.chain([soon]).map(day_of).collect::<BTreeSet<_>>().into_iter().collect()
}

impl PostgresTransaction {
    /// Takes the next numbers for as many records and gaps, and creates the partitions of these days if they are missing.
    pub(crate) async fn take_numbers(
        &mut self,
        records: usize,
        gaps: usize,
        days: Vec<i64>,
    ) -> Result<Numbers> {
        let (records, gaps) = (saturated(records as u64), saturated(gaps as u64));
        let row = self
            .connection()
            .row(
                sqlx::query(
                    "UPDATE audit_numbers SET records = records + $1, gaps = gaps + $2 RETURNING records, gaps, \
                     ARRAY(SELECT needed FROM unnest($3::bigint[]) AS needed \
                     WHERE NOT EXISTS (SELECT FROM audit_days WHERE day = needed))",
                )
                .bind(records)
                .bind(gaps)
                .bind(days),
            )
            .await?;
        let missing: Vec<i64> = sqlx::Row::try_get(&row, 2).map_err(StoreError::backend)?;
        if !missing.is_empty() {
            self.connection()
                .execute(
                    sqlx::query("SELECT create_audit_day(missing) FROM unnest($1::bigint[]) AS missing")
                        .bind(missing),
                )
                .await?;
        }
        Ok(Numbers {
            before_records: row.column::<i64>(0)? - records,
            before_gaps: row.column::<i64>(1)? - gaps,
        })
    }
}

#[cfg(test)]
mod tests {
    use omniflow_store::contract::fixtures::{DAY, START, ingest, record};

    use super::*;
    use crate::test_store::{new_store, rows};

    #[tokio::test]
    async fn batch_of_a_wrong_clock_creates_few_partitions() {
        let (store, _database) = new_store().await;
        ingest(&store, (0..300).map(|n| record(n, START - n * DAY, None)).collect()).await;
        let partitions = rows(&store, "SELECT count(*) FROM audit_days").await;
        assert_eq!(partitions[0].column::<i64>(0).unwrap(), 91);
    }

    #[test]
    fn days_of_a_batch_include_the_next_one_in_its_last_hour() {
        let start = 20_833 * DAY_MS;
        let days = |times: &[u64], heard_at| {
            days_of(times.iter().map(|time| UnixMillis(*time)), UnixMillis(heard_at))
        };
        assert_eq!(days(&[start, start + DAY_MS - 1], start), [20_833]);
        assert_eq!(days(&[start - 1, start], start + DAY_MS - HOUR_MS), [20_832, 20_833, 20_834]);
        assert_eq!(days(&[0, 20_453 * DAY_MS + 1], start), [20_453, 20_833], "before 2026");
        assert_eq!(days(&[], u64::MAX), [213_503_982_334]);
    }
}
