//! The person or program behind a request to the control plane.

use uuid::Uuid;

use crate::admin_event::PrincipalRef;
use crate::name::Name;
use crate::token::{Role, Token};

/// The bearer of the token that a request was made with.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The token's identifier.
    pub id: Uuid,
    /// The token's name.
    pub name: Name,
    /// Its role.
    pub role: Role,
}

// === impl Principal ===

impl Principal {
    /// Whether it may change keys and the policy.
    pub fn may_write(&self) -> bool {
        matches!(self.role, Role::Owner | Role::Admin)
    }

    /// The principal, as named in the admin log.
    pub fn reference(&self) -> PrincipalRef {
        PrincipalRef { id: Some(self.id), name: self.name.to_string() }
    }
}

impl From<Token> for Principal {
    fn from(token: Token) -> Self {
        Self { id: token.id, name: token.name, role: token.role }
    }
}
