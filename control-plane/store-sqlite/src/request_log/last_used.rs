//! When keys were last used.

use std::collections::HashMap;

use omniflow_policy::time::UnixMillis;
use omniflow_store::encoding::request_log::last_use;
use omniflow_store::{Result, StoreError};
use sqlx::{QueryBuilder, Sqlite};
use uuid::Uuid;

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
        let rows = query.build().fetch_all(&mut *self.reader().await?).await.map_err(StoreError::backend)?;
        rows.iter().map(last_use).collect()
    }
}
