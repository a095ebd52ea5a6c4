//! The index of names, by which keys are searched, is written in segments, which are merged here.

use sqlx::{Row, SqliteConnection};

use super::Result;
use super::database::Writer;

/// Pages of the index that one step merges: a change that waits for it waits some milliseconds, at a million keys too.
const STEP_PAGES: i64 = 8;

impl Writer<'_> {
    /// Merges a few segments of the index of names, as far as it is due. Tells whether something was merged: then there may be
    /// more. For the database of keys only.
    pub async fn merge_search_segments(&mut self) -> Result<bool> {
        let mut transaction = self.begin().await?;
        let before = total_changes(transaction.connection()).await?;
        sqlx::query("INSERT INTO key_texts (key_texts, rank) VALUES ('merge', ?)")
            .bind(STEP_PAGES)
            .execute(transaction.connection())
            .await?;
        // FTS5 counts its own command as one change, and each page that it has written beside it ("The 'merge' command").
        let is_merged = total_changes(transaction.connection()).await? - before >= 2;
        if is_merged {
            transaction.commit().await?;
        }
        Ok(is_merged)
    }
}

async fn total_changes(connection: &mut SqliteConnection) -> Result<i64> {
    Ok(sqlx::query("SELECT total_changes()").fetch_one(connection).await?.try_get(0)?)
}

#[cfg(test)]
mod tests {
    use crate::storage::Storage;

    /// One less than SQLite merges at once, whatever it is told.
    const KEYS: i64 = 15;

    async fn segments(storage: &Storage) -> i64 {
        let mut reader = storage.main.reader().await.unwrap();
        let segments = sqlx::query_scalar("SELECT count(DISTINCT segid) FROM key_texts_idx");
        segments.fetch_one(&mut *reader).await.unwrap()
    }

    /// Adds a text to the index as each new key does, in a transaction of its own.
    async fn add(storage: &Storage, rowid: i64) {
        let mut writer = storage.main.writer().await;
        let mut transaction = writer.begin().await.unwrap();
        sqlx::query("INSERT INTO key_texts (rowid, name, description) VALUES (?, ?, NULL)")
            .bind(rowid)
            .bind(format!("service-{rowid}"))
            .execute(transaction.connection())
            .await
            .unwrap();
        transaction.commit().await.unwrap();
    }

    #[tokio::test]
    async fn segments_are_merged_beside_the_changes_until_few_are_left() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(folder.path()).await.unwrap();
        for rowid in 1..=KEYS {
            add(&storage, rowid).await;
        }
        let before = segments(&storage).await;
        assert_eq!(before, KEYS, "whoever adds a key merges nothing");
        let mut steps = 0;
        while storage.main.writer().await.merge_search_segments().await.unwrap() {
            steps += 1;
            assert!(steps < 1_000, "it comes to no end");
        }
        let after = segments(&storage).await;
        assert!(after < 4, "{before} segments, {after} after {steps} steps");
        let mut reader = storage.main.reader().await.unwrap();
        let found: i64 = sqlx::query_scalar("SELECT count(*) FROM key_texts WHERE key_texts MATCH 'ser'")
            .fetch_one(&mut *reader)
            .await
            .unwrap();
        assert_eq!(found, KEYS);
    }
}
