//! Which roles may use which operations.

use super::error::Error;
use super::token::Role;

/// The principals that an endpoint of the API or a page of the console admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone, without authentication. Such an endpoint reveals nothing about keys.
    Public,
    /// Bearers of a token with one of these roles.
    Roles(&'static [Role]),
}

/// Reading keys, policy, gateways and the audit log.
pub const READ: Access = Access::Roles(&[Role::Owner, Role::Admin, Role::Auditor]);
/// Changing keys and the policy.
pub const WRITE: Access = Access::Roles(&[Role::Owner, Role::Admin]);
/// Reading payloads of calls. Roles that create keys cannot read them.
pub const AUDIT: Access = Access::Roles(&[Role::Auditor]);
/// All operations on tokens.
pub const OWNER: Access = Access::Roles(&[Role::Owner]);
/// The gateway protocol.
pub const GATEWAY: Access = Access::Roles(&[Role::Gateway]);

// === impl Access ===

impl Access {
    /// Whether a token with this role is admitted.
    pub fn admits(self, role: Role) -> bool {
        match self {
            Self::Public => true,
            Self::Roles(roles) => roles.contains(&role),
        }
    }

    /// Rejects a token whose role is not admitted.
    ///
    /// # Errors
    ///
    /// `forbidden`, with the admitted roles and the token's own role.
    pub fn check(self, role: Role) -> Result<(), Error> {
        match self {
            Self::Roles(roles) if !roles.contains(&role) => {
                let admitted: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
                Err(Error::forbidden(format!(
                    "This request requires a token with the role {}; your token has the role {role}.",
                    admitted.join(" or "),
                )))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_that_is_not_admitted_is_forbidden_with_the_roles_that_are() {
        assert_eq!(Access::Public.check(Role::Gateway), Ok(()));
        assert_eq!(READ.check(Role::Auditor), Ok(()));
        let error = WRITE.check(Role::Auditor).unwrap_err();
        assert_eq!(
            error.detail(),
            "This request requires a token with the role owner or admin; your token has the role auditor."
        );
        assert!(AUDIT.admits(Role::Auditor) && !AUDIT.admits(Role::Owner));
    }
}
