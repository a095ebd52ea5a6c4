//! The parameters of lists of the admin log.

use omniflow_domain::admin_event::AdminLogFilter;
use serde::Deserialize;
use utoipa::IntoParams;

use super::query::{InvalidQuery, Parser};
use crate::schema;

/// The filter of changes.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AdminLogParameters {
    /// Only changes with this action.
    #[param(value_type = Option<schema::Action>)]
    pub action: Option<String>,
    /// Only changes by the token with this name or identifier.
    pub principal: Option<String>,
    /// Only changes to the object with this name or identifier.
    pub subject: Option<String>,
    /// Only changes made at or after this time.
    #[param(value_type = Option<schema::Instant>)]
    pub from: Option<String>,
    /// Only changes made before this time.
    #[param(value_type = Option<schema::Instant>)]
    pub to: Option<String>,
}

// === impl AdminLogParameters ===

impl AdminLogParameters {
    /// The filter.
    pub fn parse(self) -> Result<AdminLogFilter, InvalidQuery> {
        let mut parser = Parser::default();
        let filter = AdminLogFilter {
            action: parser.parsed("action", self.action),
            principal: Parser::text(self.principal),
            subject: Parser::text(self.subject),
            from: parser.time("from", self.from),
            to: parser.time("to", self.to),
        };
        parser.finish(filter)
    }
}
