//! Rows of PostgreSQL, which has no unsigned integers: counts, times and limits are `bigint`, numbers of versions and statuses
//! are `integer`.

use omniflow_store::encoding::Columns;
use omniflow_store::{Result, StoreError};
use sqlx::postgres::PgRow;
use sqlx::{Column, Decode, Postgres, Row, Type, TypeInfo};
use uuid::Uuid;

use crate::PostgresStore;

impl Columns<PostgresStore> for PgRow {
    fn integer(&self, index: usize) -> Result<Option<i64>> {
        let column = self.try_column(index).map_err(StoreError::backend)?;
        if column.type_info().name() == "INT4" {
            return Ok(get::<i32>(self, index)?.map(i64::from));
        }
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

fn get<'r, T>(row: &'r PgRow, index: usize) -> Result<Option<T>>
where
    T: Decode<'r, Postgres> + Type<Postgres>,
{
    row.try_get(index).map_err(StoreError::backend)
}
