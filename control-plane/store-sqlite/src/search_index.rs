//! Merges the segments of the full-text index of keys.

use sqlx::SqliteConnection;

use omniflow_store::encoding::Columns;
use omniflow_store::{Result, StoreError};

use crate::SqliteStore;

/// Index pages that one step merges. A change that waits for it waits a few milliseconds, even with a million keys.
const STEP_PAGES: i64 = 8;

impl SqliteStore {
    /// Merges a few segments if due. Returns whether something was merged, in which case there may be more to merge.
    pub async fn merge_search_segments(&self) -> Result<bool> {
        let mut transaction = self.main.begin().await?;
        let before = total_changes(transaction.connection()).await?;
        sqlx::query("INSERT INTO key_texts (key_texts, rank) VALUES ('merge', ?)")
            .bind(STEP_PAGES)
            .execute(transaction.connection())
            .await
            .map_err(StoreError::backend)?;
        // FTS5 counts its own command as one change, plus each page that it writes (sqlite.org/fts5.html, "The 'merge' command").
        let is_merged = total_changes(transaction.connection()).await? - before >= 2;
        if is_merged {
            transaction.commit().await?;
        }
        Ok(is_merged)
    }
}

async fn total_changes(connection: &mut SqliteConnection) -> Result<i64> {
    sqlx::query("SELECT total_changes()").fetch_one(connection).await.map_err(StoreError::backend)?.column(0)
}

#[cfg(test)]
mod tests {
    use crate::SqliteStore;

    /// One less than SQLite merges regardless of its settings.
    const KEYS: i64 = 15;

    async fn segments(store: &SqliteStore) -> i64 {
        let mut reader = store.main.reader().await.unwrap();
        let segments = sqlx::query_scalar("SELECT count(DISTINCT segid) FROM key_texts_idx");
        segments.fetch_one(&mut *reader).await.unwrap()
    }

    /// Adds a text to the index in a separate transaction, as each new key does.
    async fn add(store: &SqliteStore, rowid: i64) {
        let mut transaction = store.main.begin().await.unwrap();
        sqlx::query("INSERT INTO key_texts (rowid, name, description) VALUES (?, ?, NULL)")
            .bind(rowid)
            .bind(format!("service-{rowid}"))
            .execute(transaction.connection())
            .await
            .unwrap();
        transaction.commit().await.unwrap();
    }

    #[tokio::test]
    async fn segments_are_merged_until_few_are_left() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        for rowid in 1..=KEYS {
            add(&store, rowid).await;
        }
        let before = segments(&store).await;
        assert_eq!(before, KEYS, "inserting keys merges nothing");
        let mut steps = 0;
        while store.merge_search_segments().await.unwrap() {
            steps += 1;
            assert!(steps < 1_000, "merging does not end");
        }
        let after = segments(&store).await;
        assert!(after < 4, "{before} segments, {after} after {steps} steps");
        let mut reader = store.main.reader().await.unwrap();
        let found: i64 = sqlx::query_scalar("SELECT count(*) FROM key_texts WHERE key_texts MATCH 'ser'")
            .fetch_one(&mut *reader)
            .await
            .unwrap();
        assert_eq!(found, KEYS);
    }
}
