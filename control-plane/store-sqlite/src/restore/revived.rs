//! What a restore makes valid again: what is revoked in the replaced databases, but not in the backup.

use std::path::Path;

use serde_json::{Map, Value};
use sqlx::Connection as _;
use sqlx::sqlite::SqliteRow;

use omniflow_store::encoding::Columns;
use omniflow_store::{Result, StoreError};

use crate::backup::read_only;

/// The maximum number of keys, and of tokens, that the admin log names.
const MAX_NAMED: usize = 1_000;

/// The names of keys and tokens that are revoked in the replaced databases but not in the backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revived {
    /// Versions of keys: the name of the key and the number of the version.
    pub versions: Vec<(String, u16)>,
    /// Tokens.
    pub tokens: Vec<String>,
}

// === impl Revived ===

impl Revived {
    /// Compares the restored database with the one that it replaces. Fails if that one does not exist or cannot be read.
    pub(super) async fn read(restored: &Path, replaced: &Path) -> Result<Self> {
        let mut reader = read_only(restored).await?;
        let read = async {
            let path: Vec<u8> = replaced.as_os_str().as_encoded_bytes().into();
            sqlx::query("ATTACH DATABASE ? AS replaced")
                .bind(path)
                .execute(&mut reader)
                .await
                .map_err(StoreError::backend)?;
            let versions = sqlx::query(
                "SELECT k.name, v.version FROM key_versions v JOIN keys k ON k.id = v.key_id \
                 JOIN replaced.key_versions r ON r.key_id = v.key_id AND r.version = v.version \
                 WHERE v.revoked_at IS NULL AND r.revoked_at IS NOT NULL ORDER BY 1, 2",
            )
            .fetch_all(&mut reader)
            .await
            .map_err(StoreError::backend)?;
            let tokens = sqlx::query(
                "SELECT name FROM tokens WHERE id NOT IN (SELECT id FROM replaced.tokens) \
                 AND (SELECT id FROM installation) = (SELECT id FROM replaced.installation) ORDER BY 1",
            )
            .fetch_all(&mut reader)
            .await
            .map_err(StoreError::backend)?;
            let version = |row: &SqliteRow| Ok((row.column(0)?, row.column(1)?));
            Ok(Self {
                versions: versions.iter().map(version).collect::<Result<_>>()?,
                tokens: tokens.iter().map(|row| row.column(0)).collect::<Result<_>>()?,
            })
        }
        .await;
        reader.close().await.map_err(StoreError::backend)?;
        read
    }

    /// The names as fields of the event in the admin log.
    pub(super) fn fields(&self) -> Map<String, Value> {
        let versions = self.versions.iter().map(|(name, version)| format!("{name} version {version}"));
        let fields = [("revived_keys", versions.collect()), ("revived_tokens", self.tokens.clone())];
        fields.map(|(name, names)| (name.to_owned(), named(names).into())).into_iter().collect()
    }
}

/// The first names, and how many more there are.
fn named(mut names: Vec<String>) -> Vec<String> {
    let more = names.len().saturating_sub(MAX_NAMED);
    names.truncate(MAX_NAMED);
    names.extend((more > 0).then(|| format!("and {more} more")));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_of_a_restore_has_a_bounded_length() {
        let names = |count: usize| named((0..count).map(|n| n.to_string()).collect());
        assert_eq!(names(1_000).len(), 1_000);
        assert_eq!((names(1_003).len(), names(1_003).last().unwrap().as_str()), (1_001, "and 3 more"));
    }
}
