//! The settings of a key (scopes, allowlist, limits, expiry), with the rules that new and changed keys share.

use omniflow_domain::error::Error;
use omniflow_domain::key::{Key, MAX_DESCRIPTION_LENGTH};
use omniflow_policy::address::Allowlist;
use omniflow_policy::limit::{InvalidRateLimit, RateLimit};
use omniflow_policy::policy::Policy;
use omniflow_policy::scope::{Scope, ScopeSet};
use omniflow_policy::time::UnixMillis;

use crate::fields::check_future;

/// The settings in a request. An absent setting has its default in a new key, and stays unchanged in an existing one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// All scopes.
    pub scopes: Option<Vec<Scope>>,
    /// All limits. If only a burst is set, the default limit applies with that burst.
    pub rate_limit: Option<RateLimit>,
    /// All addresses and networks; none for any address.
    pub ip_allowlist: Option<Allowlist>,
    /// When the key expires; `Some(None)` for never.
    pub expires_at: Option<Option<UnixMillis>>,
    /// Its purpose; an empty text to remove it.
    pub description: Option<String>,
}

/// The limits that apply for these inputs.
pub fn effective_rate_limit(stated: RateLimit) -> RateLimit {
    match stated {
        RateLimit { per_minute: None, per_hour: None, burst: burst @ Some(_) } => {
            RateLimit { burst, ..RateLimit::default() }
        }
        stated => stated,
    }
}

// === impl Settings ===

impl Settings {
    /// Every error of these settings, in the order of the fields.
    pub(super) fn errors(&self, policy: &Policy, now: UnixMillis) -> Vec<Error> {
        let Self { scopes, rate_limit, ip_allowlist: _, expires_at, description } = self;
        let mut errors = Vec::new();
        errors.extend(scopes.as_deref().and_then(|scopes| scope_set(scopes, policy).err()));
        errors.extend(rate_limit.map(rate_limit_errors).unwrap_or_default());
        errors.extend(expires_at.and_then(|end| check_future(end, now).err()));
        if description.as_ref().is_some_and(|text| text.len() > MAX_DESCRIPTION_LENGTH) {
            let detail = format!("description must have at most {MAX_DESCRIPTION_LENGTH} bytes");
            errors.push(Error::invalid_field("/description", detail));
        }
        errors
    }

    /// Applies these settings to a key.
    ///
    /// # Errors
    ///
    /// The first of [`Self::errors`].
    pub(super) fn apply(self, key: &mut Key, policy: &Policy, now: UnixMillis) -> Result<(), Error> {
        if let Some(error) = self.errors(policy, now).into_iter().next() {
            return Err(error);
        }
        let Self { scopes, rate_limit, ip_allowlist, expires_at, description } = self;
        if let Some(scopes) = scopes {
            key.scopes = scope_set(&scopes, policy)?;
        }
        key.rate_limit = rate_limit.map_or(key.rate_limit, effective_rate_limit);
        key.expires_at = expires_at.unwrap_or(key.expires_at);
        if let Some(ip_allowlist) = ip_allowlist {
            key.ip_allowlist = ip_allowlist;
        }
        if let Some(description) = description {
            key.description = Some(description).filter(|text| !text.is_empty());
        }
        Ok(())
    }
}

/// A set of scopes, each of which the policy must define.
fn scope_set(scopes: &[Scope], policy: &Policy) -> Result<ScopeSet, Error> {
    if let Some((index, scope)) = scopes.iter().enumerate().find(|(_, scope)| !policy.defines(scope)) {
        let known: Vec<&str> = policy.document().scopes.iter().map(|scope| scope.name.as_str()).collect();
        let detail =
            format!("The policy does not define the scope {scope}. Defined scopes: {}.", known.join(", "));
        return Err(Error::invalid_field(format!("/scopes/{index}"), detail));
    }
    ScopeSet::new(scopes.iter().cloned()).map_err(|error| Error::invalid_field("/scopes", error))
}

/// Every error of limits: a check finds one at a time, so each is replaced by a valid value.
fn rate_limit_errors(stated: RateLimit) -> Vec<Error> {
    let (mut limit, mut errors) = (effective_rate_limit(stated), Vec::new());
    while let Err(error) = limit.validate() {
        let pointer = match error {
            InvalidRateLimit::Unlimited => {
                limit = RateLimit::default();
                "/rate_limit".to_owned()
            }
            InvalidRateLimit::OutOfRange { field, .. } => {
                match field {
                    "per_minute" => limit.per_minute = Some(1),
                    "per_hour" => limit.per_hour = Some(1),
                    _ => limit.burst = None,
                }
                format!("/rate_limit/{field}")
            }
        };
        errors.push(Error::invalid_field(pointer, error));
    }
    errors
}
