//! Reads the sums from which anomalies are detected: hours that have changed, and the history before them.

use std::collections::HashMap;

use omniflow_domain::anomaly::{MAX_NAMED, Network};
use omniflow_domain::detection::{HISTORY_HOURS, History, Present};
use omniflow_domain::time::DAY_MS;
use omniflow_store::encoding::anomalies::{ended_use, history_of, key_hour, network_period, present};
use omniflow_store::encoding::{Columns, row_limit, saturated};
use omniflow_store::{ChangedHour, EvaluationCursor, Result};
use uuid::Uuid;

use crate::connection::Connection;

const HOURS: &str = "SELECT hour, calls, unauthorized, forbidden, missing, limited, other_errors, grpc_errors, places, \
     key_id, key_name, first_time, last_time FROM key_hours ";

/// Networks that were first used in an hour of a key, those with the most calls first.
const NEW_NETWORKS: &str = "SELECT hour.key_id, hour.hour, networks.network FROM unnest($1::uuid[], $2::bigint[]) \
     AS hour (key_id, hour) CROSS JOIN LATERAL (SELECT network, calls FROM key_networks \
     WHERE key_networks.key_id = hour.key_id AND first_time >= hour.hour * 3600000 \
     AND first_time < (hour.hour + 1) * 3600000 ORDER BY calls DESC LIMIT $3) AS networks \
     ORDER BY networks.calls DESC";

/// Up to `limit` changed sums of each kind after the cursor.
pub(super) async fn changed_hours(
    reader: &mut Connection,
    cursor: &mut EvaluationCursor,
    limit: usize,
) -> Result<Vec<ChangedHour>> {
    let query = sqlx::AssertSqlSafe(format!(
        "{HOURS} WHERE changed AND (hour, key_id) > ($1, $2) ORDER BY hour, key_id LIMIT $3"
    ));
    let query = sqlx::query(query).bind(saturated(cursor.hour.0)).bind(cursor.hour.1).bind(row_limit(limit));
    let mut hours = reader.rows(query).await?.iter().map(present).collect::<Result<Vec<_>>>()?;
    read_new_networks(reader, &mut hours).await?;
    let mut changed: Vec<_> = hours.into_iter().map(ChangedHour::Hour).collect();
    let query = sqlx::query(
        "SELECT key_id, key_version, reason, key_name, first_time, last_time, calls FROM key_ends \
         WHERE changed AND (key_id, key_version, reason) > ($1, $2, $3) \
         ORDER BY key_id, key_version, reason LIMIT $4",
    )
    .bind(cursor.end.0)
    .bind(i32::from(cursor.end.1))
    .bind(cursor.end.2.clone())
    .bind(row_limit(limit));
    let ended = reader.rows(query).await?;
    changed.extend(ended.iter().map(ended_use).collect::<Result<Vec<_>>>()?);
    changed.iter().for_each(|one| cursor.pass(one));
    Ok(changed)
}

async fn read_new_networks(reader: &mut Connection, hours: &mut [Present]) -> Result<()> {
    let query = sqlx::query(NEW_NETWORKS)
        .bind(hours.iter().map(|present| present.key_id).collect::<Vec<_>>())
        .bind(hours.iter().map(|present| saturated(present.counts.hour)).collect::<Vec<_>>())
        .bind(row_limit(MAX_NAMED));
    let mut networks: HashMap<(Uuid, u64), Vec<Network>> = HashMap::new();
    for row in &reader.rows(query).await? {
        networks.entry((row.column(0)?, row.column(1)?)).or_default().push(row.column(2)?);
    }
    for present in hours {
        let key = (present.key_id, present.counts.hour);
        present.new_networks = networks.remove(&key).unwrap_or_default();
    }
    Ok(())
}

/// The usage of the key before this hour.
pub(super) async fn history(reader: &mut Connection, present: &mut Present) -> Result<History> {
    let hour = present.counts.hour;
    let query = sqlx::AssertSqlSafe(format!("{HOURS} WHERE key_id = $1 AND hour >= $2 AND hour < $3"));
    let query = sqlx::query(query)
        .bind(present.key_id)
        .bind(saturated(hour.saturating_sub(HISTORY_HOURS)))
        .bind(saturated(hour));
    let hours = reader.rows(query).await?.iter().map(key_hour).collect::<Result<_>>()?;
    let query = sqlx::query("SELECT min(hour) FROM key_hours WHERE key_id = $1").bind(present.key_id);
    let since = reader.row(query).await?.column::<Option<u64>>(0)?.unwrap_or(hour);
    let (from, end) = network_period(hour, since);
    let query = sqlx::query(
        "SELECT ($1 - first_time - 1) / $2 AS day, count(*) FROM key_networks \
         WHERE key_id = $3 AND first_time >= $4 AND first_time < $1 GROUP BY day",
    )
    .bind(saturated(end))
    .bind(saturated(DAY_MS))
    .bind(present.key_id)
    .bind(saturated(from));
    history_of(present, since, hours, &reader.rows(query).await?)
}
