//! What a request with an idempotency key created.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The objects that a request created, as remembered with its idempotency key. It contains no secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// The kind of the objects.
    pub kind: CreatedKind,
    /// Their identifiers.
    pub ids: Vec<Uuid>,
}

/// The kinds of objects that requests with an idempotency key create.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreatedKind {
    /// A key, or a version of it.
    Key,
    /// A token.
    Token,
}

// === impl Created ===

impl Created {
    /// This key, or a version of it.
    pub fn key(id: Uuid) -> Self {
        Self { kind: CreatedKind::Key, ids: vec![id] }
    }

    /// This token.
    pub fn token(id: Uuid) -> Self {
        Self { kind: CreatedKind::Token, ids: vec![id] }
    }
}

impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<String> = self.ids.iter().map(Uuid::to_string).collect();
        let kind = match self.kind {
            CreatedKind::Key => "key",
            CreatedKind::Token => "token",
        };
        write!(f, "{kind} {}", ids.join(", "))
    }
}
