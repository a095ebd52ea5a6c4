//! The admin log. Triggers of the database refuse to change or delete entries.

use serde_json::Value;
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use omniflow_domain::admin_event::{AdminEvent, NewAdminEvent};

use async_trait::async_trait;
use omniflow_domain::admin_event::AdminLogFilter;
use omniflow_store::encoding::access;
use omniflow_store::encoding::{row_limit, to_millis};
use omniflow_store::{AdminLogStore, AdminLogWrites, Result, StoreError, TokenWrites};

use crate::PostgresStore;
use crate::text::storable;
use crate::time_limit::in_time;
use crate::transaction::PostgresTransaction;

#[async_trait]
impl AdminLogStore for PostgresStore {
    async fn admin_events(
        &self,
        filter: &AdminLogFilter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<AdminEvent>> {
        let mut query = QueryBuilder::<Postgres>::new(
            "SELECT id, time, principal_id, principal_name, action, subject_id, subject_name, before, after FROM admin_log \
             WHERE id < ",
        );
        query.push_bind(before.unwrap_or(i64::MAX));
        if let Some(action) = filter.action {
            query.push(" AND action = ").push_bind(action.as_str());
        }
        if let Some(principal) = &filter.principal {
            match Uuid::parse_str(principal) {
                Ok(id) => query.push(" AND principal_id = ").push_bind(id),
                Err(_) => query.push(" AND principal_name = ").push_bind(storable(principal)),
            };
        }
        if let Some(subject) = &filter.subject {
            query.push(" AND (subject_id = ").push_bind(storable(subject));
            query.push(" OR subject_name = ").push_bind(storable(subject)).push(")");
        }
        if let Some(from) = filter.from {
            query.push(" AND time >= ").push_bind(to_millis(from));
        }
        if let Some(to) = filter.to {
            query.push(" AND time < ").push_bind(to_millis(to));
        }
        query.push(" ORDER BY id DESC LIMIT ").push_bind(row_limit(limit));
        let read_rows = async {
            let mut scanner = self.database.scanner().await?;
            scanner.rows(query.build()).await
        };
        let rows = in_time(read_rows).await?;
        rows.iter().map(access::admin_event).collect()
    }
}

#[async_trait]
impl AdminLogWrites for PostgresTransaction {
    async fn insert_admin_event(&mut self, event: &NewAdminEvent) -> Result<()> {
        if let Some(token) = event.principal.id
            && !self.token(token).await?.is_some_and(|token| token.is_valid(event.time))
        {
            return Err(StoreError::PrincipalInvalid);
        }
        self.connection().execute(sqlx::query(
            "INSERT INTO admin_log (time, principal_id, principal_name, action, subject_id, subject_name, before, after) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(to_millis(event.time))
        .bind(event.principal.id)
        .bind(event.principal.name.clone())
        .bind(event.action.as_str())
        .bind(event.subject.id.clone())
        .bind(event.subject.name.clone())
        .bind(event.before.as_ref().map(Value::to_string))
        .bind(event.after.as_ref().map(Value::to_string))).await?;
        Ok(())
    }
}
