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
    pub(crate) async fn find_errors(
        &self,
        principal: &Principal,
        mut request: Create,
    ) -> Result<Vec<Error>, Error> {
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
    pub(crate) async fn find_update_errors(
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
            digest: None,
            hint: None,
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

#[cfg(test)]
mod tests {
    use omniflow_domain::token::Role;
    use omniflow_policy::limit::RateLimit;

    use super::*;
    use crate::http::testing::Plane;

    fn pointers(errors: &[Error]) -> Vec<(ErrorCode, Option<&str>)> {
        errors.iter().map(|error| (error.code(), error.field())).collect()
    }

    #[tokio::test]
    async fn every_invalid_field_is_reported_once() {
        let plane = Plane::new().await;
        plane.key("taken").await;
        let principal =
            Principal { id: uuid::Uuid::nil(), name: "owner".parse().unwrap(), role: Role::Owner };
        let request = Create {
            name: "taken".to_owned(),
            environment: "prod".to_owned(),
            scopes: vec!["contacts:read".to_owned(), "nothing:read".to_owned(), "x".to_owned()],
            rate_limit: Some(RateLimit { per_minute: Some(0), per_hour: Some(0), burst: Some(0) }),
            ip_allowlist: Some(vec!["10.0.0.1/8".to_owned()]),
            expires_at: Some("tomorrow".to_owned()),
            description: Some("x".repeat(1_025)),
            ..Create::default()
        };
        let invalid = |pointer| (ErrorCode::InvalidField, Some(pointer));
        let expected = [
            invalid("/environment"),
            invalid("/scopes/1"),
            invalid("/rate_limit/per_minute"),
            invalid("/rate_limit/per_hour"),
            invalid("/rate_limit/burst"),
            invalid("/ip_allowlist/0"),
            invalid("/description"),
            invalid("/expires_at"),
            (ErrorCode::NameTaken, None),
        ];
        let keys = &plane.app.keys;
        let errors = keys.find_errors(&principal, request.clone()).await.unwrap();
        assert_eq!(pointers(&errors), expected);

        let update = Update {
            scopes: Some(request.scopes),
            rate_limit: Some(Some(RateLimit { per_minute: None, per_hour: None, burst: None })),
            description: Some(None),
            ..Update::default()
        };
        let errors = keys.find_update_errors(&principal, update).await.unwrap();
        assert_eq!(pointers(&errors), [invalid("/scopes/1"), invalid("/rate_limit")]);
        let valid = Update { scopes: Some(vec!["contacts:read".to_owned()]), ..Update::default() };
        assert_eq!(keys.find_update_errors(&principal, valid).await.unwrap(), []);
    }
}
