//! Reads the sums from which anomalies are detected: hours that have changed, and the history before them.

use sqlx::SqliteConnection;

use omniflow_store::encoding::anomalies::{ended_use, history_of, key_hour, network_period, present};
use omniflow_store::encoding::{Columns, row_limit, saturated};
use omniflow_store::{ChangedHour, EvaluationCursor, Result, StoreError};

use omniflow_domain::anomaly::MAX_NAMED;
use omniflow_domain::detection::{HISTORY_HOURS, HOUR_MS, History, Present};
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
        present.new_networks = networks.iter().map(|row| row.column(0)).collect::<Result<_>>()?;
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
    let hours = rows.iter().map(key_hour).collect::<Result<_>>()?;
    let row = sqlx::query("SELECT min(hour) FROM key_hours WHERE key_id = ?").bind(present.key_id);
    let since = row.fetch_one(&mut *connection).await.map_err(StoreError::backend)?;
    let since = since.column::<Option<u64>>(0)?.unwrap_or(hour);
    let (from, end) = network_period(hour, since);
    let networks = sqlx::query(
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
    history_of(present, since, hours, &networks)
}

/// The start and the end of an hour.
fn bounds(hour: u64) -> (u64, u64) {
    let from = hour.saturating_mul(HOUR_MS);
    (from, from.saturating_add(HOUR_MS))
}
