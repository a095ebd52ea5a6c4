//! The admin log in JSON.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::schema;
use super::time::Time;
use omniflow_domain::admin_event::AdminEvent;

/// A change that an admin made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = AdminEvent)]
pub struct AdminEventJson {
    /// Event number.
    #[schema(value_type = schema::Number)]
    pub id: String,
    /// When the change was made.
    #[schema(value_type = schema::Instant)]
    pub time: Time,
    /// Who made the change.
    pub principal: PrincipalJson,
    /// The kind of change.
    #[schema(value_type = schema::Action)]
    pub action: Cow<'static, str>,
    /// What was changed.
    pub subject: SubjectJson,
    /// Changed fields, with their values before the change; null if there are none.
    #[schema(value_type = Option<Object>, required = true)]
    pub before: Option<Value>,
    /// Changed fields, with their values after the change; null if there are none.
    #[schema(value_type = Option<Object>, required = true)]
    pub after: Option<Value>,
}

/// The principal that made the change.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = PrincipalRef)]
pub struct PrincipalJson {
    /// Identifier of the token; null for changes made by the first start or a restore.
    #[schema(value_type = Option<schema::Identifier>, required = true)]
    pub token_id: Option<Uuid>,
    /// Name of the token at the time of the change.
    pub name: String,
}

/// The object that was changed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Subject)]
pub struct SubjectJson {
    /// Identifier of the key or token, or number of the policy version or record.
    pub id: String,
    /// Name of the subject at the time; empty if it has none.
    pub name: String,
}

impl From<AdminEvent> for AdminEventJson {
    fn from(AdminEvent { id, noted }: AdminEvent) -> Self {
        Self {
            id: id.to_string(),
            time: Time(noted.time),
            principal: PrincipalJson { token_id: noted.principal.id, name: noted.principal.name },
            action: noted.action.as_str().into(),
            subject: SubjectJson { id: noted.subject.id, name: noted.subject.name },
            before: noted.before,
            after: noted.after,
        }
    }
}
