//! Checks that this release can open the databases of a data directory, without changing them.

use std::path::Path;

use sqlx::Connection;
use sqlx::migrate::{MigrateError, Migrator};

use omniflow_store::encoding::Columns;
use omniflow_store::{Result, StoreError};

use crate::backup::read_only;
use crate::database::{audit_migrations, main_migrations, migration_error};
use crate::{AUDIT_FILE, MAIN_FILE};

/// Checks that no newer release has written the databases in `directory`. Databases that do not exist pass.
///
/// # Errors
///
/// The error that opening would return: a migration is unknown to this release, or was altered.
pub async fn check_release(directory: &Path) -> Result<()> {
    for (name, migrations) in [(AUDIT_FILE, audit_migrations()), (MAIN_FILE, main_migrations())] {
        let path = directory.join(name);
        if path.exists() {
            let unknown = unknown_migration(&path, &migrations).await?;
            if let Some(error) = unknown {
                return Err(migration_error(&path, error));
            }
        }
    }
    Ok(())
}

/// The first applied migration that is not one of this release; `None` if there is none.
async fn unknown_migration(path: &Path, migrations: &Migrator) -> Result<Option<MigrateError>> {
    let mut reader = read_only(path).await?;
    let rows = async {
        let table = "SELECT 1 FROM sqlite_master WHERE name = '_sqlx_migrations'";
        let table = sqlx::query(table).fetch_optional(&mut reader).await;
        if table.map_err(StoreError::backend)?.is_none() {
            return Ok(Vec::new());
        }
        let applied = "SELECT version, checksum FROM _sqlx_migrations ORDER BY version";
        sqlx::query(applied).fetch_all(&mut reader).await.map_err(StoreError::backend)
    }
    .await;
    reader.close().await.map_err(StoreError::backend)?;
    for row in rows? {
        let (version, checksum): (i64, Vec<u8>) = (row.column(0)?, row.column(1)?);
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
