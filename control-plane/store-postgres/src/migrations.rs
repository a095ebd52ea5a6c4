//! The schema of the database, and the check that this release can use it.

use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{PgConnection, SqlSafeStr};

use omniflow_store::{Result, StoreError};

use crate::database::responds_within;

/// How long all migrations together may take. Those that rewrite a large table take minutes.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// The migrations of this release.
fn migrations() -> Migrator {
    Migrator::with_migrations(vec![
        migration(1, "keys, tokens, policy, admin log", include_str!("../migrations/main.sql")),
        migration(2, "request log", include_str!("../migrations/audit.sql")),
    ])
}

fn migration(version: i64, description: &'static str, sql: &'static str) -> Migration {
    Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
}

/// Brings the schema to that of this release, under an advisory lock: several processes may start at once. Each migration
/// is one transaction.
///
/// # Errors
///
/// [`StoreError::NewerRelease`] if a newer release has migrated the database, [`StoreError::Migration`] if a migration was
/// altered or fails.
pub(crate) async fn migrate(connection: &mut PgConnection, database: String) -> Result<()> {
    let run = async {
        migrations().run_direct(None, connection, false).await.map_err(|error| match error {
            MigrateError::VersionMissing(version) => StoreError::NewerRelease { database, version },
            source => StoreError::Migration { database, source: Box::new(source) },
        })
    };
    responds_within(LIMIT, run).await
}
