//! When keys were last used.

use std::collections::HashMap;

use omniflow_policy::time::UnixMillis;
use omniflow_store::Result;
use sqlx::{QueryBuilder, Row, Sqlite};
use uuid::Uuid;

use crate::columns::from_millis;
use crate::database::Database;

impl Database {
    /// When a call with each version of these keys was last allowed. Versions without one are not in the map.
    pub(crate) async fn last_used(&self, keys: &[Uuid]) -> Result<HashMap<(Uuid, u16), UnixMillis>> {
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT key_id, version, last_used_at FROM key_last_used WHERE key_id IN (",
        );
        let mut list = query.separated(", ");
        for key in keys {
            list.push_bind(*key);
        }
        query.push(")");
        let rows = query.build().fetch_all(&mut *self.reader().await?).await?;
        rows.iter()
            .map(|row| Ok(((row.try_get(0)?, row.try_get(1)?), from_millis(row.try_get(2)?))))
            .collect()
    }
}
