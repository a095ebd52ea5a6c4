//! Reads the sums from which anomalies are detected: hours that have changed, and the history before them.

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use omniflow_store::{ChangedHour, EvaluationCursor, Result, StoreError};

use crate::columns::{Columns, from_millis, row_limit, saturated};
use omniflow_domain::anomaly::{AnomalyKind, Detection, Evidence, MAX_NAMED, Network};
use omniflow_domain::detection::{HISTORY_HOURS, HOUR_MS, History, KeyHour, Present};
use omniflow_domain::time::DAY_MS;

const HOURS: &str = "SELECT hour, calls, unauthorized, forbidden, missing, limited, other_errors, grpc_errors, places, \
     key_id, key_name, first_time, last_time FROM key_hours ";

/// Up to `limit` changed sums of each kind after the cursor.
pub(crate) async fn changed_hours(
    connection: &mut SqliteConnection,
    cursor: &mut EvaluationCursor,
    limit: usize,
) -> Result<Vec<ChangedHour>> {
    let statement = sqlx::AssertSqlSafe(format!(
        "{HOURS} WHERE changed = 1 AND (hour, key_id) > (?, ?) ORDER BY hour, key_id LIMIT ?"
    ));
    let hours = sqlx::query(statement)
        .bind(saturated(cursor.hour.0))
        .bind(cursor.hour.1)
        .bind(row_limit(limit))
        .fetch_all(&mut *connection)
        .await
        .map_err(StoreError::backend)?;
    let mut changed = Vec::with_capacity(hours.len());
    for row in &hours {
        let mut present = present(row)?;
        let (from, end) = bounds(present.counts.hour);
        let networks = sqlx::query(
            "SELECT network FROM key_networks WHERE key_id = ? AND first_time >= ? AND first_time < ? \
             ORDER BY calls DESC LIMIT ?",
        )
        .bind(present.key_id)
        .bind(saturated(from))
        .bind(saturated(end))
        .bind(row_limit(MAX_NAMED))
        .fetch_all(&mut *connection)
        .await
        .map_err(StoreError::backend)?;
        let read =
            |row: &SqliteRow| Network::from_prefix(row.column(0)?).ok_or(StoreError::Corrupt("a network"));
        present.new_networks = networks.iter().map(read).collect::<Result<_>>()?;
        changed.push(ChangedHour::Hour(present));
    }
    let ended = sqlx::query(
        "SELECT key_id, key_version, reason, key_name, first_time, last_time, calls FROM key_ends \
         WHERE changed = 1 AND (key_id, key_version, reason) > (?, ?, ?) \
         ORDER BY key_id, key_version, reason LIMIT ?",
    )
    .bind(cursor.end.0)
    .bind(cursor.end.1)
    .bind(cursor.end.2.clone())
    .bind(row_limit(limit))
    .fetch_all(&mut *connection)
    .await
    .map_err(StoreError::backend)?;
    changed.extend(ended.iter().map(ended_use).collect::<Result<Vec<_>>>()?);
    changed.iter().for_each(|one| cursor.pass(one));
    Ok(changed)
}

/// The usage of the key before this hour.
pub(crate) async fn history(connection: &mut SqliteConnection, present: &mut Present) -> Result<History> {
    let hour = present.counts.hour;
    let statement = sqlx::AssertSqlSafe(format!("{HOURS} WHERE key_id = ? AND hour >= ? AND hour < ?"));
    let rows = sqlx::query(statement)
        .bind(present.key_id)
        .bind(saturated(hour.saturating_sub(HISTORY_HOURS)))
        .bind(saturated(hour))
        .fetch_all(&mut *connection)
        .await
        .map_err(StoreError::backend)?;
    let hours = rows.iter().map(counts).collect::<Result<_>>()?;
    let row = sqlx::query("SELECT min(hour) FROM key_hours WHERE key_id = ?").bind(present.key_id);
    let since =
        row.fetch_one(&mut *connection).await.map_err(StoreError::backend)?.column::<Option<i64>, _>(0)?;
    let since = since.map_or(hour, i64::cast_unsigned);
    let (_, end) = bounds(hour);
    // On the first day of a key every network is new.
    let complete_from = (since * HOUR_MS).saturating_add(DAY_MS);
    let from = complete_from.max(end.saturating_sub((HISTORY_HOURS + 24) * HOUR_MS));
    let rows = sqlx::query(
        "SELECT (? - first_time - 1) / ? AS day, count(*) FROM key_networks \
         WHERE key_id = ? AND first_time >= ? AND first_time < ? GROUP BY day",
    )
    .bind(saturated(end))
    .bind(saturated(DAY_MS))
    .bind(present.key_id)
    .bind(saturated(from))
    .bind(saturated(end))
    .fetch_all(&mut *connection)
    .await
    .map_err(StoreError::backend)?;
    let mut new_networks = Vec::with_capacity(rows.len());
    for row in rows {
        let count = row.column::<i64, _>(1)?.cast_unsigned();
        match row.column::<i64, _>(0)? {
            0 => present.new_in_a_day = count,
            _ => new_networks.push(count),
        }
    }
    Ok(History { since, hours, new_networks })
}

/// The start and the end of an hour.
fn bounds(hour: u64) -> (u64, u64) {
    let from = hour.saturating_mul(HOUR_MS);
    (from, from.saturating_add(HOUR_MS))
}

fn count(row: &SqliteRow, column: usize) -> Result<u64> {
    Ok(row.column::<i64, _>(column)?.cast_unsigned())
}

fn counts(row: &SqliteRow) -> Result<KeyHour> {
    Ok(KeyHour {
        hour: count(row, 0)?,
        calls: count(row, 1)?,
        errors: [
            count(row, 2)?,
            count(row, 3)?,
            count(row, 4)?,
            count(row, 5)?,
            count(row, 6)?,
            count(row, 7)?,
        ],
        places: count(row, 8)?,
    })
}

fn present(row: &SqliteRow) -> Result<Present> {
    Ok(Present {
        key_id: row.column::<Uuid, _>(9)?,
        key_name: row.column(10)?,
        first: from_millis(row.column(11)?),
        last: from_millis(row.column(12)?),
        counts: counts(row)?,
        new_networks: Vec::new(),
        new_in_a_day: 0,
    })
}

fn ended_use(row: &SqliteRow) -> Result<ChangedHour> {
    Ok(ChangedHour::Ended(Detection {
        kind: AnomalyKind::UsedAfterEnd,
        key_id: row.column(0)?,
        key_name: row.column(3)?,
        first: from_millis(row.column(4)?),
        last: from_millis(row.column(5)?),
        evidence: Evidence {
            observed: count(row, 6)?,
            expected: None,
            bound: 1,
            history_days: None,
            networks: Vec::new(),
            status: None,
            version: row.column(1)?,
            reason: row.column(2)?,
        },
    }))
}
