//! Whether a database has this release's form and nothing else. Whoever can write a backup could put a trigger into it,
//! which would run with every change.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use sqlx::Row;

use super::{AUDIT_FILE, Database, MAIN_FILE, Result, Storage, at};

/// Kind, name, table and text of a table, index, trigger or view.
type Definition = (String, String, String, Option<String>);

/// The database of a storage, by its file's name, that has other definitions than a new one; `None` if both are as they
/// should be. `scratch` is a folder that is not there, for a new storage to compare with.
pub(super) async fn foreign(storage: &Storage, scratch: &Path) -> Result<Option<&'static str>> {
    let new = Storage::open(scratch).await?;
    let main = definitions(&storage.main).await? == definitions(&new.main).await?;
    let audit = definitions(&storage.audit).await? == definitions(&new.audit).await?;
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
    .await?;
    let definition = |row: &sqlx::sqlite::SqliteRow| {
        Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))
    };
    rows.iter().map(definition).collect()
}
