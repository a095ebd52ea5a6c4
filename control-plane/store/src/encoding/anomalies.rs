//! Anomalies, and the sums from which they are detected.

use omniflow_domain::anomaly::{Anomaly, AnomalyKind, Detection, Evidence};
use omniflow_domain::detection::{HISTORY_HOURS, HOUR_MS, History, KeyHour, Present};
use omniflow_domain::time::DAY_MS;

use super::{Columns, from_json, parsed};
use crate::anomalies::{ChangedHour, Delivery};
use crate::error::Result;

/// An anomaly. Columns: id, kind, id and name of the key, first and last time, evidence.
pub fn anomaly<B>(row: &impl Columns<B>) -> Result<Anomaly> {
    Ok(Anomaly {
        id: row.column(0)?,
        detection: Detection {
            kind: parsed(row.column(1)?, "a kind")?,
            key_id: row.column(2)?,
            key_name: row.column(3)?,
            first: row.column(4)?,
            last: row.column(5)?,
            evidence: from_json(row.column(6)?, "evidence")?,
        },
    })
}

/// A delivery to the webhook. Columns: those of [`anomaly`], since when it waits, attempts.
pub fn delivery<B>(row: &impl Columns<B>) -> Result<Delivery> {
    Ok(Delivery { anomaly: anomaly(row)?, since: row.column(7)?, attempts: row.column(8)? })
}

/// The number of anomalies of a kind. Columns: kind, total.
pub fn anomaly_total<B>(row: &impl Columns<B>) -> Result<(AnomalyKind, u64)> {
    Ok((parsed(row.column(0)?, "a kind")?, row.column(1)?))
}

/// The sums of a key in an hour. Columns: hour, calls, six kinds of errors, places.
pub fn key_hour<B>(row: &impl Columns<B>) -> Result<KeyHour> {
    let mut errors = [0; 6];
    for (column, count) in (2..).zip(&mut errors) {
        *count = row.column(column)?;
    }
    Ok(KeyHour { hour: row.column(0)?, calls: row.column(1)?, errors, places: row.column(8)? })
}

/// An hour that has changed, without its networks. Columns: those of [`key_hour`], id and name of the key, first and last time.
pub fn present<B>(row: &impl Columns<B>) -> Result<Present> {
    Ok(Present {
        counts: key_hour(row)?,
        key_id: row.column(9)?,
        key_name: row.column(10)?,
        first: row.column(11)?,
        last: row.column(12)?,
        new_networks: Vec::new(),
        new_in_a_day: 0,
    })
}

/// Calls with a version that had ended. Columns: key, version, reason, name of the key, first and last time, calls.
pub fn ended_use<B>(row: &impl Columns<B>) -> Result<ChangedHour> {
    Ok(ChangedHour::Ended(Detection {
        kind: AnomalyKind::UsedAfterEnd,
        key_id: row.column(0)?,
        key_name: row.column(3)?,
        first: row.column(4)?,
        last: row.column(5)?,
        evidence: Evidence {
            observed: row.column(6)?,
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

/// The period in which new networks count for the history of an hour, in milliseconds since 1970, if the key was first used in
/// the hour `since`. On the first day of a key every network is new.
pub fn network_period(hour: u64, since: u64) -> (u64, u64) {
    let end = hour.saturating_add(1).saturating_mul(HOUR_MS);
    let complete_from = since.saturating_mul(HOUR_MS).saturating_add(DAY_MS);
    (complete_from.max(end.saturating_sub((HISTORY_HOURS + 24) * HOUR_MS)), end)
}

/// The history of a key, with new networks by days before the end of its hour. Those of the last day belong to `present`.
/// Columns of `networks`: number of days before the end, count.
pub fn history_of<B, R: Columns<B>>(
    present: &mut Present,
    since: u64,
    hours: Vec<KeyHour>,
    networks: &[R],
) -> Result<History> {
    let mut new_networks = Vec::with_capacity(networks.len());
    for row in networks {
        match row.column::<i64>(0)? {
            0 => present.new_in_a_day = row.column(1)?,
            _ => new_networks.push(row.column(1)?),
        }
    }
    Ok(History { since, hours, new_networks })
}
