//! Rows of SQLite.

use omniflow_store::encoding::Columns;
use omniflow_store::{Result, StoreError};
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};
use uuid::Uuid;

use crate::SqliteStore;

impl Columns<SqliteStore> for SqliteRow {
    fn integer(&self, index: usize) -> Result<Option<i64>> {
        get(self, index)
    }

    fn text(&self, index: usize) -> Result<Option<&str>> {
        get(self, index)
    }

    fn bytes(&self, index: usize) -> Result<Option<&[u8]>> {
        get(self, index)
    }

    fn uuid(&self, index: usize) -> Result<Option<Uuid>> {
        get(self, index)
    }

    fn boolean(&self, index: usize) -> Result<Option<bool>> {
        get(self, index)
    }
}

fn get<'r, T>(row: &'r SqliteRow, index: usize) -> Result<Option<T>>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
{
    row.try_get(index).map_err(StoreError::backend)
}
