//! The parameters of lists of keys.

use omniflow_domain::key::KeyQuery;
use serde::Deserialize;
use utoipa::IntoParams;

use super::query::{InvalidQuery, Parser};
use crate::schema;

/// The filter and the order of keys.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct KeyParameters {
    /// Only keys with this status.
    #[param(value_type = Option<schema::KeyStatus>)]
    pub status: Option<String>,
    /// Only keys in this environment.
    #[param(value_type = Option<schema::Environment>)]
    pub environment: Option<String>,
    /// Only keys with this scope.
    #[param(value_type = Option<schema::Scope>)]
    pub scope: Option<String>,
    /// `true`: only keys whose `rotation_due_at` has passed; `false`: only other keys.
    #[param(value_type = Option<bool>)]
    pub rotation_due: Option<String>,
    /// Only keys whose `last_used_at` is before this time or null.
    #[param(value_type = Option<schema::Instant>)]
    pub unused_since: Option<String>,
    /// Only keys that are accepted now and expire before this time.
    #[param(value_type = Option<schema::Instant>)]
    pub expires_before: Option<String>,
    /// Only keys with this text in their name or description (ignoring the case of ASCII letters), or with exactly this
    /// hint.
    pub q: Option<String>,
    /// Sort order; `newest` if omitted.
    #[param(value_type = Option<schema::KeyOrder>)]
    pub sort: Option<String>,
}

// === impl KeyParameters ===

impl KeyParameters {
    /// The request.
    pub fn parse(self) -> Result<KeyQuery, InvalidQuery> {
        let mut parser = Parser::default();
        let query = KeyQuery {
            order: parser.parsed("sort", self.sort).unwrap_or_default(),
            status: parser.parsed("status", self.status),
            environment: parser.parsed("environment", self.environment),
            scope: parser.parsed("scope", self.scope),
            rotation_due: parser.parsed("rotation_due", self.rotation_due),
            unused_since: parser.time("unused_since", self.unused_since),
            expires_before: parser.time("expires_before", self.expires_before),
            text: Parser::text(self.q),
        };
        parser.finish(query)
    }
}
