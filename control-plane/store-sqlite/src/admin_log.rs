//! The admin log. Triggers of the database refuse to change or delete entries.

use serde_json::Value;
use sqlx::{QueryBuilder, Sqlite};
use uuid::Uuid;

use omniflow_domain::admin_event::{AdminEvent, NewAdminEvent};

use async_trait::async_trait;
use omniflow_domain::admin_event::AdminLogFilter;
use omniflow_store::encoding::access;
use omniflow_store::encoding::{row_limit, to_millis};
use omniflow_store::{AdminLogStore, AdminLogWrites, Result, StoreError, TokenWrites};

use crate::SqliteStore;
use crate::database::SqliteTransaction;
use crate::scanner::in_time;

#[async_trait]
impl AdminLogStore for SqliteStore {
    async fn admin_events(
        &self,
        filter: &AdminLogFilter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<AdminEvent>> {
        let mut query = QueryBuilder::<Sqlite>::new(
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
                Err(_) => query.push(" AND principal_name = ").push_bind(principal.clone()),
            };
        }
        if let Some(subject) = &filter.subject {
            query.push(" AND (subject_id = ").push_bind(subject.clone());
            query.push(" OR subject_name = ").push_bind(subject.clone()).push(")");
        }
        if let Some(from) = filter.from {
            query.push(" AND time >= ").push_bind(to_millis(from));
        }
        if let Some(to) = filter.to {
            query.push(" AND time < ").push_bind(to_millis(to));
        }
        query.push(" ORDER BY id DESC LIMIT ").push_bind(row_limit(limit));
        let read_rows = async {
            let mut scanner = self.main.scanner().await?;
            query.build().fetch_all(&mut *scanner).await.map_err(StoreError::backend)
        };
        let rows = in_time(read_rows).await?;
        rows.iter().map(access::admin_event).collect()
    }
}

#[async_trait]
impl AdminLogWrites for SqliteTransaction {
    async fn insert_admin_event(&mut self, event: &NewAdminEvent) -> Result<()> {
        if let Some(token) = event.principal.id
            && !self.token(token).await?.is_some_and(|token| token.is_valid(event.time))
        {
            return Err(StoreError::PrincipalInvalid);
        }
        sqlx::query(
            "INSERT INTO admin_log (time, principal_id, principal_name, action, subject_id, subject_name, before, after) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(to_millis(event.time))
        .bind(event.principal.id)
        .bind(event.principal.name.clone())
        .bind(event.action.as_str())
        .bind(event.subject.id.clone())
        .bind(event.subject.name.clone())
        .bind(event.before.as_ref().map(Value::to_string))
        .bind(event.after.as_ref().map(Value::to_string))
        .execute(self.connection())
        .await
        .map_err(StoreError::backend)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use omniflow_domain::admin_event::{Action, PrincipalRef, Subject};
    use omniflow_policy::time::UnixMillis;

    use super::*;
    use crate::SqliteStore;

    #[tokio::test]
    async fn entries_cannot_be_changed_or_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("data")).await.unwrap();
        let event = NewAdminEvent {
            time: UnixMillis(7),
            principal: PrincipalRef { id: None, name: "first start".to_owned() },
            action: Action::InstallationCreated,
            subject: Subject { id: "1".to_owned(), name: "omf".to_owned() },
            before: None,
            after: Some(serde_json::json!({"key_prefix": "omf"})),
        };
        let mut transaction = store.main.begin().await.unwrap();
        transaction.insert_admin_event(&event).await.unwrap();
        transaction.commit().await.unwrap();
        for statement in ["UPDATE admin_log SET principal_name = 'nobody'", "DELETE FROM admin_log"] {
            let mut transaction = store.main.begin().await.unwrap();
            let refused = sqlx::query(statement).execute(transaction.connection()).await.unwrap_err();
            assert!(refused.to_string().contains("admin events are not"), "{refused}");
        }
        let kept = store.admin_events(&AdminLogFilter::default(), None, 10).await.unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(
            (kept[0].noted.principal.clone(), kept[0].noted.after.clone()),
            (event.principal, event.after)
        );
    }
}
