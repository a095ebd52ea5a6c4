//! The fields that the forms of a key have, and the request that they make.

use omniflow_domain::error::Error;
use omniflow_policy::limit::RateLimit;
use omniflow_policy::policy::PolicyDocument;
use omniflow_policy::time::UnixMillis;

use omniflow_service::keys::{KeyText, ParsedKey, Settings, SettingsText};

use crate::form::{Form, FormError, Labelled, Lifetime, at, blamed, elsewhere, lifetime, lifetimes};
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

/// Errors at the fields of a form: the first of each field.
pub(super) fn errors(problems: &[Error]) -> Vec<FormError> {
    let mut errors: Vec<FormError> = Vec::new();
    for found in problems.iter().map(error) {
        if errors.iter().all(|known| known.field != found.field) {
            errors.push(found);
        }
    }
    errors
}

/// What the form of a new key states.
pub(super) fn parse(form: &Form, now: UnixMillis) -> ParsedKey {
    let (settings, mut errors) = settings_text(form, now);
    let (name, environment) = (form.text("name").to_owned(), form.text("environment").to_owned());
    let parsed = KeyText { name, environment, settings, digest: None, hint: None }.parse();
    errors.extend(parsed.errors);
    ParsedKey { errors, ..parsed }
}

/// What the form of a change states: all settings that it shows, anew.
pub(super) fn parse_settings(form: &Form, now: UnixMillis) -> (Settings, Vec<Error>) {
    let (text, mut errors) = settings_text(form, now);
    let (settings, wrong) = text.parse();
    errors.extend(wrong);
    (settings, errors)
}

/// The settings of a form, and the errors of the fields that only forms have: numbers as text, and the choice of a lifetime.
fn settings_text(form: &Form, now: UnixMillis) -> (SettingsText, Vec<Error>) {
    let mut errors = Vec::new();
    let mut number = |name, pointer| {
        form.number(name, pointer).unwrap_or_else(|error| {
            errors.push(error);
            None
        })
    };
    let rate_limit = RateLimit {
        per_minute: number("per_minute", "/rate_limit/per_minute"),
        per_hour: number("per_hour", "/rate_limit/per_hour"),
        burst: number("burst", "/rate_limit/burst"),
    };
    let expires_at = lifetime(form, now).unwrap_or_else(|error| {
        errors.push(error);
        None
    });
    let text = SettingsText {
        scopes: Some(form.all("scopes").map(str::to_owned).collect()),
        rate_limit: Some(rate_limit),
        ip_allowlist: Some(form.entries("ip_allowlist")),
        expires_at: Some(expires_at),
        description: Some(form.text("description").to_owned()),
    };
    (text, errors)
}

#[cfg(test)]
mod tests {
    use omniflow_domain::time::parse_time;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn form(text: &str) -> Form {
        Form::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_form_makes_the_request_that_the_api_takes() {
        let request = parse(
            &form(
                "name=ci&environment=test&scopes=a%3Aread&scopes=b%3Awrite&per_minute=5&per_hour=&burst=7\
                   &ip_allowlist=10.0.0.0/8%0D%0A::1&lifetime=30d&expires_at=&description=",
            ),
            NOW,
        )
        .into_request()
        .unwrap();
        assert_eq!((request.name.as_str(), request.environment.as_str()), ("ci", "test"));
        let settings = request.settings;
        let scopes: Vec<_> = settings.scopes.iter().flatten().map(|scope| scope.as_str()).collect();
        assert_eq!(scopes, ["a:read", "b:write"]);
        assert_eq!(
            settings.rate_limit,
            Some(RateLimit { per_minute: Some(5), per_hour: None, burst: Some(7) })
        );
        let networks: Vec<_> =
            settings.ip_allowlist.unwrap().networks().iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["10.0.0.0/8", "::1/128"]);
        let end = settings.expires_at.flatten().map(format_time);
        assert_eq!(end.as_deref(), Some("2027-02-14T08:00:00.000Z"));
        assert_eq!((settings.description.as_deref(), request.imported), (Some(""), None));
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
            let (_, problems) = parse_settings(&form(text), NOW);
            let fields: Vec<_> = errors(&problems).into_iter().map(|error| error.field).collect();
            assert_eq!(fields, [Some(field.to_owned())], "{text}");
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
            let (settings, _) = parse_settings(&form(&format!("lifetime=date&expires_at={text}")), NOW);
            assert_eq!(settings.expires_at, Some(parse_time(expected)));
        }
    }
}
