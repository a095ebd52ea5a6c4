//! Checks, without a change, that this release can open the databases of a data directory.

use std::path::Path;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection, Row};

use omniflow_store::{Result, StoreError};

use crate::backup::read_only;
use crate::database::{audit_migrations, main_migrations};
use crate::{AUDIT_FILE, MAIN_FILE};

/// Checks that no newer release has written the databases in `directory`. Databases that do not exist pass.
///
/// # Errors
///
/// The error with which opening would fail: a migration that this release does not have, or a changed one.
pub async fn check_release(directory: &Path) -> Result<()> {
    for (name, migrations) in [(AUDIT_FILE, audit_migrations()), (MAIN_FILE, main_migrations())] {
        let path = directory.join(name);
        if path.exists() {
            let unknown = unknown_migration(&path, &migrations).await?;
            if let Some(source) = unknown {
                let database = path.display().to_string();
                return Err(StoreError::Migration { database, source: Box::new(source) });
            }
        }
    }
    Ok(())
}

/// Why the applied migrations are not those of this release; `None` if they are, or if there are fewer.
async fn unknown_migration(path: &Path, migrations: &Migrator) -> Result<Option<MigrateError>> {
    let mut reader = read_only(path).await?;
    let rows = async {
        let table = "SELECT 1 FROM sqlite_master WHERE name = '_sqlx_migrations'";
        if sqlx::query(table).fetch_optional(&mut reader).await?.is_none() {
            return Ok(Vec::new());
        }
        let applied = "SELECT version, checksum FROM _sqlx_migrations ORDER BY version";
        Result::Ok(sqlx::query(applied).fetch_all(&mut reader).await?)
    }
    .await;
    reader.close().await?;
    for row in rows? {
        let (version, checksum): (i64, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
        match migrations.iter().find(|migration| migration.version == version) {
            None => return Ok(Some(MigrateError::VersionMissing(version))),
            Some(known) if *known.checksum != *checksum => {
                return Ok(Some(MigrateError::VersionMismatch(version)));
            }
            Some(_) => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SqliteStore;
    use omniflow_store::Store;

    #[tokio::test]
    async fn databases_of_a_newer_release_are_found_without_opening_them() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        check_release(&data).await.unwrap();
        assert!(!data.exists());
        SqliteStore::open(&data).await.unwrap().close().await;
        check_release(&data).await.unwrap();
        let path = data.join(MAIN_FILE);
        let mut database = sqlx::SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
        sqlx::query("UPDATE _sqlx_migrations SET version = 99").execute(&mut database).await.unwrap();
        database.close().await.unwrap();
        let found = check_release(&data).await.unwrap_err().to_string();
        let refused = SqliteStore::open(&data).await.unwrap_err().to_string();
        assert_eq!(found, refused);
        assert!(found.contains("99"), "{found}");
    }
}
