//! The clients of calls.

use omniflow_store::{AuditedUser, Result};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::search::Head;
use crate::columns::{Columns, address, from_millis};

/// The origin and destination of a call.
pub(super) const USERS: Head<AuditedUser> = Head {
    columns: "time, key_id, key_name, endpoint, source_ip, coalesce(aggregated_calls, 1), id",
    read: read_user,
};

fn read_user(row: &PgRow) -> Result<AuditedUser> {
    let key: Option<Uuid> = row.column(1)?;
    let name: Option<String> = row.column(2)?;
    Ok(AuditedUser {
        time: from_millis(row.column(0)?),
        key: key.zip(name),
        endpoint: row.column(3)?,
        address: row.column::<Option<&[u8]>, _>(4)?.map(address).transpose()?,
        calls: row.column::<i64, _>(5)?.cast_unsigned(),
    })
}
