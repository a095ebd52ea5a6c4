//! Checks that a database has the schema of this release and nothing else. Anyone who can write a backup could add a trigger
//! to it, which would run with every change.
#![expect(clippy::disallowed_methods, reason = "part of `omf db restore`, which runs alone in its runtime")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use omniflow_store::encoding::Columns;
use omniflow_store::{Result, Store, StoreError};

use crate::database::Database;
use crate::{AUDIT_FILE, MAIN_FILE, SqliteStore, at};

/// Type, name, table and SQL of a table, index, trigger or view.
type Definition = (String, String, String, Option<String>);

/// The file name of a database whose definitions differ from those of a new one; `None` if both are equal. `scratch` is a
/// directory that does not exist, for a new store to compare with.
pub(crate) async fn foreign(store: &SqliteStore, scratch: &Path) -> Result<Option<&'static str>> {
    let new = SqliteStore::open(scratch).await?;
    let main = definitions(&store.main).await? == definitions(&new.main).await?;
    let audit = definitions(&store.audit).await? == definitions(&new.audit).await?;
    new.close().await;
    fs::remove_dir_all(scratch).map_err(at(scratch))?;
    Ok(match (main, audit) {
        (false, _) => Some(MAIN_FILE),
        (true, false) => Some(AUDIT_FILE),
        (true, true) => None,
    })
}

async fn definitions(database: &Database) -> Result<BTreeSet<Definition>> {
    let rows = sqlx::query(
        "SELECT type, name, tbl_name, sql FROM main.sqlite_master WHERE name NOT LIKE 'sqlite_stat%'",
    )
    .fetch_all(&mut *database.reader().await?)
    .await
    .map_err(StoreError::backend)?;
    let definition =
        |row: &sqlx::sqlite::SqliteRow| Ok((row.column(0)?, row.column(1)?, row.column(2)?, row.column(3)?));
    rows.iter().map(definition).collect()
}
