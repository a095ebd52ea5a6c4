//! All errors of a key's form at once, where creating or updating the key would report the first one only.

use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::principal::Principal;
use omniflow_policy::key::Environment;

use super::{Create, Keys, Update};

/// A field of a key that can be invalid by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Environment,
    Scopes,
    PerMinute,
    PerHour,
    Burst,
    Addresses,
    Expiry,
    Description,
}

impl Keys {
    /// Every error of a request to create a key: one for each field, and at most one of no field, which comes last.
    pub async fn find_errors(&self, principal: &Principal, mut request: Create) -> Result<Vec<Error>, Error> {
        let (mut errors, mut replaced) = (Vec::new(), Vec::new());
        while let Err(error) = self.dry_run(principal, request.clone()).await {
            let field = Field::of(&error).filter(|field| !replaced.contains(field));
            errors.push(error);
            // A check finds one error at a time. With a valid value in its place it finds the next one.
            let Some(field) = field else { break };
            replaced.push(field);
            self.make_valid(&mut request, field)?;
        }
        Ok(errors)
    }

    /// Every error of a request to update a key. The rules are those of a new key, apart from its name and environment.
    pub async fn find_update_errors(
        &self,
        principal: &Principal,
        request: Update,
    ) -> Result<Vec<Error>, Error> {
        let create = Create {
            name: self.unused_name()?,
            environment: Environment::Live.as_str().to_owned(),
            scopes: request.scopes.unwrap_or_default(),
            rate_limit: request.rate_limit.flatten(),
            ip_allowlist: request.ip_allowlist.flatten(),
            expires_at: request.expires_at.flatten(),
            description: request.description.flatten(),
            ..Create::default()
        };
        self.find_errors(principal, create).await
    }

    /// Puts a valid value into a field.
    fn make_valid(&self, request: &mut Create, field: Field) -> Result<(), Error> {
        let limit = request.rate_limit.get_or_insert_default();
        match field {
            Field::Name => request.name = self.unused_name()?,
            Field::Environment => Environment::Live.as_str().clone_into(&mut request.environment),
            Field::Scopes => request.scopes.clear(),
            // A key has at least one limit.
            Field::PerMinute => limit.per_minute = Some(60),
            Field::PerHour => limit.per_hour = None,
            Field::Burst => limit.burst = None,
            Field::Addresses => request.ip_allowlist = None,
            Field::Expiry => request.expires_at = None,
            Field::Description => request.description = None,
        }
        Ok(())
    }

    /// A name that no key has: it is random.
    fn unused_name(&self) -> Result<String, Error> {
        let random = self.entropy.compose(|random| [0; 16].map(|_: u8| random()))?;
        Ok(format!("checked {}", hex::encode(random)))
    }
}

// === impl Field ===

impl Field {
    /// The field that an error is at.
    fn of(error: &Error) -> Option<Self> {
        if error.code() == ErrorCode::NameTaken {
            return Some(Self::Name);
        }
        let mut pointer = error.field()?.strip_prefix('/')?.split('/');
        Some(match (pointer.next()?, pointer.next()) {
            ("name", _) => Self::Name,
            ("environment", _) => Self::Environment,
            ("scopes", _) => Self::Scopes,
            ("rate_limit", Some("per_hour")) => Self::PerHour,
            ("rate_limit", Some("burst")) => Self::Burst,
            ("rate_limit", _) => Self::PerMinute,
            ("ip_allowlist", _) => Self::Addresses,
            ("expires_at", _) => Self::Expiry,
            ("description", _) => Self::Description,
            _ => return None,
        })
    }
}
