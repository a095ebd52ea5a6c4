//! Findings, and those that a webhook has yet to take.

use omniflow_policy::time::UnixMillis;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};

use super::columns::{from_millis, parsed, row_limit, saturated, to_millis};
use super::{Database, KeyReference, Result, StorageError, Transaction};
use omniflow_domain::finding::{Finding, FindingKind, Signal};
use omniflow_domain::patterns::QUIET_MS;

/// Which findings a list has. The default is all of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct FindingFilter {
    /// Those of this key.
    pub(crate) key: Option<KeyReference>,
    /// Those of this pattern.
    pub(crate) kind: Option<FindingKind>,
    /// Those that went on at this instant or later.
    pub(crate) from: Option<UnixMillis>,
    /// Those that began before this instant.
    pub(crate) to: Option<UnixMillis>,
}

/// A finding on its way to the webhook.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// What is sent.
    pub(crate) finding: Finding,
    /// Since when it waits.
    pub(crate) since: UnixMillis,
    /// How often it was sent without being taken.
    pub(crate) attempts: u32,
}

const COLUMNS: &str = "SELECT id, kind, key_id, key_name, first_time, last_time, evidence FROM findings ";

impl Database {
    /// At most `limit` findings, the one that was found last first, beginning after `before`.
    pub(crate) async fn findings(
        &self,
        filter: &FindingFilter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Finding>> {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        query.push("WHERE id < ").push_bind(before.unwrap_or(i64::MAX));
        match &filter.key {
            Some(KeyReference::Id(id)) => drop(query.push(" AND key_id = ").push_bind(*id)),
            Some(KeyReference::Name(name)) => drop(query.push(" AND key_name = ").push_bind(name.clone())),
            None => {}
        }
        if let Some(kind) = filter.kind {
            query.push(" AND kind = ").push_bind(kind.as_str());
        }
        if let Some(from) = filter.from {
            query.push(" AND last_time >= ").push_bind(to_millis(from));
        }
        if let Some(to) = filter.to {
            query.push(" AND first_time < ").push_bind(to_millis(to));
        }
        query.push(" ORDER BY id DESC LIMIT ").push_bind(row_limit(limit));
        let rows = query.build().fetch_all(&mut *self.reader().await?).await?;
        rows.iter().map(read).collect()
    }

    /// How many findings of each pattern there ever were.
    pub(crate) async fn finding_totals(&self) -> Result<Vec<(FindingKind, u64)>> {
        let rows = sqlx::query("SELECT kind, total FROM finding_totals")
            .fetch_all(&mut *self.reader().await?)
            .await?;
        let read = |row: &SqliteRow| {
            Ok((parsed(row.try_get(0)?, "a kind")?, row.try_get::<i64, _>(1)?.cast_unsigned()))
        };
        rows.iter().map(read).collect()
    }

    /// How many records there ever were, those that are purged included.
    pub(crate) async fn record_total(&self) -> Result<u64> {
        let row =
            sqlx::query("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'audit_records'");
        Ok(row.fetch_one(&mut *self.reader().await?).await?.try_get::<i64, _>(0)?.cast_unsigned())
    }

    /// How many findings the webhook has yet to take.
    pub(crate) async fn waiting_deliveries(&self) -> Result<u64> {
        let row =
            sqlx::query("SELECT count(*) FROM deliveries").fetch_one(&mut *self.reader().await?).await?;
        Ok(row.try_get::<i64, _>(0)?.cast_unsigned())
    }

    /// At most `limit` findings that are to be sent by now, those that wait the longest first.
    pub(crate) async fn due_deliveries(&self, now: UnixMillis, limit: usize) -> Result<Vec<Delivery>> {
        let rows = sqlx::query(
            "SELECT id, kind, key_id, key_name, first_time, last_time, evidence, since, attempts \
             FROM deliveries JOIN findings ON id = finding_id WHERE next_time <= ? ORDER BY next_time LIMIT ?",
        )
        .bind(to_millis(now))
        .bind(row_limit(limit))
        .fetch_all(&mut *self.reader().await?)
        .await?;
        let delivery = |row: &SqliteRow| {
            Ok(Delivery {
                finding: read(row)?,
                since: from_millis(row.try_get(7)?),
                attempts: row.try_get(8)?,
            })
        };
        rows.iter().map(delivery).collect()
    }
}

impl Transaction<'_> {
    /// Keeps what was found: as more of a finding that is still open, or as a new one, which a webhook gets if there is
    /// one. Gives the finding where it is new.
    pub(crate) async fn note_signal(
        &mut self,
        signal: Signal,
        webhook_since: Option<UnixMillis>,
    ) -> Result<Option<Finding>> {
        let statement = sqlx::AssertSqlSafe(format!(
            "{COLUMNS} WHERE key_id = ? AND kind = ? AND subject = ? ORDER BY id DESC LIMIT 1"
        ));
        let last = sqlx::query(statement)
            .bind(signal.key_id)
            .bind(signal.kind.as_str())
            .bind(signal.subject())
            .fetch_optional(self.connection())
            .await?;
        let last = last.as_ref().map(read).transpose()?;
        // A version ends once.
        let is_open = |last: &Finding| {
            signal.kind == FindingKind::UsedAfterEnd
                || (last.signal.last.0.saturating_add(QUIET_MS) >= signal.first.0
                    && last.signal.first.0 <= signal.last.0.saturating_add(QUIET_MS))
        };
        match last.filter(is_open) {
            Some(mut finding) => {
                finding.signal.extend(signal);
                self.update_finding(&finding).await?;
                Ok(None)
            }
            None => self.insert_finding(signal, webhook_since).await.map(Some),
        }
    }

    async fn update_finding(&mut self, finding: &Finding) -> Result<()> {
        let signal = &finding.signal;
        sqlx::query(
            "UPDATE findings SET key_name = ?, first_time = ?, last_time = ?, evidence = ? WHERE id = ?",
        )
        .bind(signal.key_name.clone())
        .bind(to_millis(signal.first))
        .bind(to_millis(signal.last))
        .bind(written(signal)?)
        .bind(finding.id)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    async fn insert_finding(&mut self, signal: Signal, webhook_since: Option<UnixMillis>) -> Result<Finding> {
        let inserted = sqlx::query(
            "INSERT INTO findings (kind, key_id, subject, key_name, first_time, last_time, evidence) \
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(signal.kind.as_str())
        .bind(signal.key_id)
        .bind(signal.subject())
        .bind(signal.key_name.clone())
        .bind(to_millis(signal.first))
        .bind(to_millis(signal.last))
        .bind(written(&signal)?)
        .execute(self.connection())
        .await?;
        let id = inserted.last_insert_rowid();
        sqlx::query(
            "INSERT INTO finding_totals (kind, total) VALUES (?, 1) ON CONFLICT DO UPDATE SET total = total + 1",
        )
        .bind(signal.kind.as_str())
        .execute(self.connection())
        .await?;
        if let Some(since) = webhook_since.map(to_millis) {
            sqlx::query(
                "INSERT INTO deliveries (finding_id, since, attempts, next_time) VALUES (?, ?, 0, ?)",
            )
            .bind(id)
            .bind(since)
            .bind(since)
            .execute(self.connection())
            .await?;
        }
        Ok(Finding { id, signal })
    }

    /// The finding is sent again at `next`.
    pub(crate) async fn put_off_delivery(
        &mut self,
        finding: i64,
        attempts: u32,
        next: UnixMillis,
    ) -> Result<()> {
        sqlx::query("UPDATE deliveries SET attempts = ?, next_time = ? WHERE finding_id = ?")
            .bind(saturated(attempts.into()))
            .bind(to_millis(next))
            .bind(finding)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// The finding was taken, or is given up.
    pub(crate) async fn end_delivery(&mut self, finding: i64) -> Result<()> {
        sqlx::query("DELETE FROM deliveries WHERE finding_id = ?")
            .bind(finding)
            .execute(self.connection())
            .await?;
        Ok(())
    }
}

fn written(signal: &Signal) -> Result<String> {
    serde_json::to_string(&signal.evidence).map_err(|_| StorageError::Corrupt("evidence"))
}

fn read(row: &SqliteRow) -> Result<Finding> {
    let evidence: &str = row.try_get(6)?;
    Ok(Finding {
        id: row.try_get(0)?,
        signal: Signal {
            kind: parsed(row.try_get(1)?, "a kind")?,
            key_id: row.try_get(2)?,
            key_name: row.try_get(3)?,
            first: from_millis(row.try_get(4)?),
            last: from_millis(row.try_get(5)?),
            evidence: serde_json::from_str(evidence).map_err(|_| StorageError::Corrupt("evidence"))?,
        },
    })
}
