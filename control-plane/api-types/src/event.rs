//! The admin log in JSON.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::schema;
use super::time::Time;
use omniflow_domain::event::Event;

/// One change.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub struct EventJson {
    #[schema(value_type = schema::Number)]
    pub id: String,
    #[schema(value_type = schema::Instant)]
    pub time: Time,
    pub actor: ActorJson,
    #[schema(value_type = schema::Action)]
    pub action: &'static str,
    pub subject: SubjectJson,
    #[schema(value_type = Option<Object>, required = true)]
    pub before: Option<Value>,
    #[schema(value_type = Option<Object>, required = true)]
    pub after: Option<Value>,
}

/// Who made it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Actor)]
pub struct ActorJson {
    #[schema(value_type = Option<schema::Identifier>, required = true)]
    pub token_id: Option<Uuid>,
    pub name: String,
}

/// What it was made to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Subject)]
pub struct SubjectJson {
    pub id: String,
    pub name: String,
}

impl From<Event> for EventJson {
    fn from(Event { id, noted }: Event) -> Self {
        Self {
            id: id.to_string(),
            time: Time(noted.time),
            actor: ActorJson { token_id: noted.actor.id, name: noted.actor.name },
            action: noted.action.as_str(),
            subject: SubjectJson { id: noted.subject.id, name: noted.subject.name },
            before: noted.before,
            after: noted.after,
        }
    }
}
