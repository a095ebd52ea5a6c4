//! The fields that the forms of a key have, and the request that they make.

use omniflow_domain::error::Error;
use omniflow_domain::principal::Principal;
use omniflow_policy::limit::RateLimit;
use omniflow_policy::policy::PolicyDocument;
use omniflow_policy::time::UnixMillis;

use omniflow_service::keys::{Create, Keys, Update};

use crate::form::{
    Form, FormError, Labelled, Lifetime, at, blamed, elsewhere, lifetime, lifetimes, newly_blamed,
};
use omniflow_domain::key::Key;
use omniflow_domain::time::format_time;

/// Where requests have what the forms' fields say.
const POINTERS: [(&str, &str); 9] = [
    ("/name", "name"),
    ("/environment", "environment"),
    ("/scopes", "scopes"),
    ("/rate_limit/per_hour", "per_hour"),
    ("/rate_limit/burst", "burst"),
    ("/rate_limit", "per_minute"),
    ("/ip_allowlist", "ip_allowlist"),
    ("/expires_at", "expires_at"),
    ("/description", "description"),
];

/// What the forms call their fields.
const LABELS: [Labelled; 9] = [
    ("name", "Name"),
    ("environment", "Environment"),
    ("description", "Description"),
    ("scopes", "Scopes"),
    ("per_minute", "Calls a minute"),
    ("per_hour", "Calls an hour"),
    ("burst", "Burst"),
    ("ip_allowlist", "Addresses and networks"),
    ("expires_at", "Expires"),
];

/// What the forms of a key show, as it was typed or as the key has it.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyFields {
    pub(super) name: String,
    pub(super) environment: String,
    pub(super) description: String,
    pub(super) scopes: Vec<ScopeChoice>,
    pub(super) per_minute: String,
    pub(super) per_hour: String,
    pub(super) burst: String,
    pub(super) ip_allowlist: String,
    pub(super) lifetimes: Vec<Lifetime>,
    pub(super) expires_at: String,
    pub(super) errors: Vec<FormError>,
}

/// A scope that may be given.
#[derive(Clone, Debug)]
pub(super) struct ScopeChoice {
    pub(super) name: String,
    pub(super) description: String,
    /// The routes that need it: methods and path.
    pub(super) routes: Vec<(String, String)>,
    pub(super) is_chosen: bool,
}

/// All scopes of the policy with what each allows.
pub(super) fn scope_choices(policy: &PolicyDocument, is_chosen: impl Fn(&str) -> bool) -> Vec<ScopeChoice> {
    let choice = |scope: &omniflow_policy::policy::ScopeDefinition| {
        let routes = policy.routes.iter().filter(|route| route.scope == scope.name).map(|route| {
            let methods: Vec<String> = route.methods.iter().cloned().map(String::from).collect();
            (methods.join(", "), route.path.clone())
        });
        ScopeChoice {
            name: scope.name.to_string(),
            description: scope.description.clone(),
            routes: routes.collect(),
            is_chosen: is_chosen(scope.name.as_str()),
        }
    };
    policy.scopes.iter().map(choice).collect()
}

// === impl KeyFields ===

impl KeyFields {
    /// What the form of a new key begins with.
    pub(super) fn blank(policy: &PolicyDocument) -> Self {
        Self {
            environment: "live".to_owned(),
            per_minute: RateLimit::default().per_minute.map(|n| n.to_string()).unwrap_or_default(),
            scopes: scope_choices(policy, |_| false),
            lifetimes: lifetimes("never"),
            ..Self::default()
        }
    }

    /// What was typed.
    pub(super) fn typed(form: &Form, policy: &PolicyDocument, errors: Vec<FormError>) -> Self {
        let text = |name: &str| form.text(name).to_owned();
        Self {
            name: text("name"),
            environment: text("environment"),
            description: text("description"),
            scopes: scope_choices(policy, |scope| form.all("scopes").any(|chosen| chosen == scope)),
            per_minute: text("per_minute"),
            per_hour: text("per_hour"),
            burst: text("burst"),
            ip_allowlist: text("ip_allowlist"),
            lifetimes: lifetimes(form.text("lifetime")),
            expires_at: text("expires_at"),
            errors,
        }
    }

    /// What a key has.
    pub(super) fn of(key: &Key, policy: &PolicyDocument) -> Self {
        let number = |number: Option<u32>| number.map(|n| n.to_string()).unwrap_or_default();
        let networks: Vec<String> = key.ip_allowlist.networks().iter().map(ToString::to_string).collect();
        let end = key.expires_at.map(format_time);
        Self {
            name: key.name.to_string(),
            environment: key.environment.as_str().to_owned(),
            description: key.description.clone().unwrap_or_default(),
            scopes: scope_choices(policy, |scope| key.scopes.iter().any(|given| given.as_str() == scope)),
            per_minute: number(key.rate_limit.per_minute),
            per_hour: number(key.rate_limit.per_hour),
            burst: number(key.rate_limit.burst),
            ip_allowlist: networks.join("\n"),
            lifetimes: lifetimes(if end.is_some() { "date" } else { "never" }),
            // To the second, as the field of a browser has it.
            expires_at: end.and_then(|end| end.get(..19).map(str::to_owned)).unwrap_or_default(),
            errors: Vec::new(),
        }
    }

    /// The error at a field.
    pub(super) fn error_at(&self, field: &str) -> Option<&str> {
        at(&self.errors, field)
    }

    /// Where what was typed differs from the current values: field, effective, typed.
    pub(super) fn differences(&self, typed: &Self) -> Vec<(&'static str, String, String)> {
        let chosen = |fields: &Self| {
            let names = fields.scopes.iter().filter(|scope| scope.is_chosen).map(|scope| scope.name.as_str());
            names.collect::<Vec<_>>().join(", ")
        };
        let networks = |fields: &Self| fields.ip_allowlist.split_whitespace().collect::<Vec<_>>().join(", ");
        let end = |fields: &Self| {
            let chosen = fields.lifetimes.iter().find(|lifetime| lifetime.is_chosen);
            match chosen.map_or("never", |lifetime| lifetime.value) {
                "date" => fields.expires_at.clone(),
                other => other.to_owned(),
            }
        };
        let all = [
            ("Description", self.description.clone(), typed.description.clone()),
            ("Scopes", chosen(self), chosen(typed)),
            ("Calls a minute", self.per_minute.clone(), typed.per_minute.clone()),
            ("Calls an hour", self.per_hour.clone(), typed.per_hour.clone()),
            ("Burst", self.burst.clone(), typed.burst.clone()),
            ("Addresses and networks", networks(self), networks(typed)),
            ("Expires", end(self), end(typed)),
        ];
        all.into_iter().filter(|(_, current, typed)| current != typed).collect()
    }

    /// What stands in the field of a limit.
    pub(super) fn limit_text(&self, field: &str) -> &str {
        match field {
            "per_minute" => &self.per_minute,
            "per_hour" => &self.per_hour,
            _ => &self.burst,
        }
    }

    /// The fields that are to blame.
    pub(super) fn wrong(&self) -> Vec<Labelled> {
        blamed(&self.errors, &LABELS)
    }

    /// The error that no field is to blame for.
    pub(super) fn other_error(&self) -> Option<&str> {
        elsewhere(&self.errors)
    }
}

/// A problem at the field of a form.
pub(super) fn error(problem: &Error) -> FormError {
    FormError::new(problem, &POINTERS)
}

/// Every error of a form of a key of which `problem` was found: one for each field.
pub(super) async fn every_error_of(
    keys: &Keys,
    principal: &Principal,
    form: &Form,
    problem: &Error,
    now: UnixMillis,
) -> Result<Vec<FormError>, Error> {
    let mut errors = vec![error(problem)];
    let mut form = form.clone();
    // First what the form itself reads: numbers, and the choice of a lifetime.
    while let Some(field) = newly_blamed(&errors) {
        form = match field {
            // A key has at least one limit.
            "per_minute" => form.with(field, "60"),
            "per_hour" | "burst" => form.without(field),
            "expires_at" => form.with("lifetime", "never"),
            _ => form,
        };
        match rate_limit(&form).and(lifetime(&form, now)) {
            Ok(_) => break,
            Err(problem) => errors.push(error(&problem)),
        }
    }
    if newly_blamed(&errors).is_none() {
        return Ok(errors);
    }
    let found = if form.names("name") {
        keys.find_errors(principal, to_create(&form, now)?).await?
    } else {
        keys.find_update_errors(principal, to_update(&form, now)?).await?
    };
    for found in found.iter().map(error) {
        if found.field.as_deref().is_none_or(|field| at(&errors, field).is_none()) {
            errors.push(found);
        }
    }
    Ok(errors)
}

/// How long a page that follows a change waits for the gateways.
pub(super) const WAIT: &str = "2s";

/// The request for a new key.
pub(super) fn to_create(form: &Form, now: UnixMillis) -> Result<Create, Error> {
    Ok(Create {
        name: form.text("name").to_owned(),
        environment: form.text("environment").to_owned(),
        scopes: form.all("scopes").map(str::to_owned).collect(),
        rate_limit: Some(rate_limit(form)?),
        ip_allowlist: Some(form.entries("ip_allowlist")),
        expires_at: lifetime(form, now)?,
        description: form.stated("description"),
        wait: Some(WAIT.to_owned()),
        ..Create::default()
    })
}

/// The request for a change: all that the form shows, anew.
pub(super) fn to_update(form: &Form, now: UnixMillis) -> Result<Update, Error> {
    Ok(Update {
        scopes: Some(form.all("scopes").map(str::to_owned).collect()),
        rate_limit: Some(Some(rate_limit(form)?)),
        ip_allowlist: Some(Some(form.entries("ip_allowlist"))),
        expires_at: Some(lifetime(form, now)?),
        description: Some(form.stated("description")),
        wait: Some(WAIT.to_owned()),
        ..Update::default()
    })
}

fn rate_limit(form: &Form) -> Result<RateLimit, Error> {
    Ok(RateLimit {
        per_minute: form.number("per_minute", "/rate_limit/per_minute")?,
        per_hour: form.number("per_hour", "/rate_limit/per_hour")?,
        burst: form.number("burst", "/rate_limit/burst")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn form(text: &str) -> Form {
        Form::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_form_makes_the_request_that_the_api_takes() {
        let request = to_create(
            &form(
                "name=ci&environment=test&scopes=a%3Aread&scopes=b%3Awrite&per_minute=5&per_hour=&burst=7\
                   &ip_allowlist=10.0.0.0/8%0D%0A::1&lifetime=30d&expires_at=&description=",
            ),
            NOW,
        )
        .unwrap();
        assert_eq!((request.name.as_str(), request.environment.as_str()), ("ci", "test"));
        assert_eq!(request.scopes, ["a:read", "b:write"]);
        assert_eq!(
            request.rate_limit,
            Some(RateLimit { per_minute: Some(5), per_hour: None, burst: Some(7) })
        );
        assert_eq!(request.ip_allowlist.unwrap(), ["10.0.0.0/8", "::1"]);
        assert_eq!(request.expires_at.as_deref(), Some("2027-02-14T08:00:00.000Z"));
        assert_eq!((request.description, request.digest, request.hint), (None, None, None));
    }

    #[test]
    fn what_cannot_be_read_is_reported_at_its_field() {
        for (text, field) in [
            ("per_minute=x", "per_minute"),
            ("per_hour=-1", "per_hour"),
            ("burst=1.5", "burst"),
            ("burst=99999999999", "burst"),
            ("lifetime=date", "expires_at"),
            ("lifetime=7w", "expires_at"),
        ] {
            let problem = to_create(&form(text), NOW).unwrap_err();
            assert_eq!(error(&problem).field.as_deref(), Some(field), "{text}");
        }
    }

    #[test]
    fn an_end_is_in_utc() {
        for (text, expected) in [
            ("2027-02-01", "2027-02-01T00:00:00Z"),
            ("2027-02-01T10:30", "2027-02-01T10:30:00Z"),
            ("2027-02-01T10:30:15", "2027-02-01T10:30:15Z"),
            ("2027-02-01T10:30:15+02:00", "2027-02-01T10:30:15+02:00"),
        ] {
            let text = text.replace('+', "%2B");
            let request = to_update(&form(&format!("lifetime=date&expires_at={text}")), NOW).unwrap();
            assert_eq!(request.expires_at, Some(Some(expected.to_owned())));
        }
    }
}
