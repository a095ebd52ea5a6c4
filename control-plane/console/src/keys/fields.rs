//! The fields of the key forms, and the requests made from them.

use std::time::Duration;

use omniflow_domain::error::Error;
use omniflow_policy::limit::RateLimit;
use omniflow_policy::policy::PolicyDocument;
use omniflow_policy::time::UnixMillis;

use omniflow_service::keys::{KeyText, ParsedKey, Settings, SettingsText};

use crate::form::{
    Form, FormError, Labelled, Lifetime, error_at, general_error, invalid_fields, lifetime, lifetimes,
};
use omniflow_domain::key::Key;
use omniflow_domain::time::format_time;

/// JSON pointers of the requests, with the form field of each.
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

/// Labels of the form fields.
const LABELS: [Labelled; 9] = [
    ("name", "Name"),
    ("environment", "Environment"),
    ("description", "Description"),
    ("scopes", "Scopes"),
    ("per_minute", "Calls per minute"),
    ("per_hour", "Calls per hour"),
    ("burst", "Burst"),
    ("ip_allowlist", "IP allowlist"),
    ("expires_at", "Expires"),
];

/// The values of a key form, as submitted or as stored.
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

/// A scope to choose from.
#[derive(Clone, Debug)]
pub(super) struct ScopeChoice {
    pub(super) name: String,
    pub(super) description: String,
    /// The routes that require it: methods and path.
    pub(super) routes: Vec<(String, String)>,
    pub(super) is_chosen: bool,
}

/// All scopes of the policy with their routes.
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
    /// The initial values of the form for a new key.
    pub(super) fn blank(policy: &PolicyDocument) -> Self {
        Self {
            environment: "live".to_owned(),
            per_minute: RateLimit::default().per_minute.map(|n| n.to_string()).unwrap_or_default(),
            scopes: scope_choices(policy, |_| false),
            lifetimes: lifetimes("never"),
            ..Self::default()
        }
    }

    /// The submitted values.
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

    /// The stored values of a key.
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
            // Date fields of browsers have a precision of seconds.
            expires_at: end.and_then(|end| end.get(..19).map(str::to_owned)).unwrap_or_default(),
            errors: Vec::new(),
        }
    }

    /// The error at a field.
    pub(super) fn error_at(&self, field: &str) -> Option<&str> {
        error_at(&self.errors, field)
    }

    /// The fields whose submitted values differ from the current ones: label, current value, submitted value.
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
            ("Calls per minute", self.per_minute.clone(), typed.per_minute.clone()),
            ("Calls per hour", self.per_hour.clone(), typed.per_hour.clone()),
            ("Burst", self.burst.clone(), typed.burst.clone()),
            ("IP allowlist", networks(self), networks(typed)),
            ("Expires", end(self), end(typed)),
        ];
        all.into_iter().filter(|(_, current, typed)| current != typed).collect()
    }

    /// The value of a limit field.
    pub(super) fn limit_text(&self, field: &str) -> &str {
        match field {
            "per_minute" => &self.per_minute,
            "per_hour" => &self.per_hour,
            _ => &self.burst,
        }
    }

    /// The fields with errors.
    pub(super) fn wrong(&self) -> Vec<Labelled> {
        invalid_fields(&self.errors, &LABELS)
    }

    /// The error of the form as a whole.
    pub(super) fn other_error(&self) -> Option<&str> {
        general_error(&self.errors)
    }
}

/// Assigns a problem to its form field.
pub(super) fn error(problem: &Error) -> FormError {
    FormError::new(problem, &POINTERS)
}

/// The first error of each form field.
pub(super) fn errors(problems: &[Error]) -> Vec<FormError> {
    let mut errors: Vec<FormError> = Vec::new();
    for found in problems.iter().map(error) {
        if errors.iter().all(|known| known.field != found.field) {
            errors.push(found);
        }
    }
    errors
}

/// How long the page after a change waits for the gateways.
pub(super) const WAIT: Duration = Duration::from_secs(2);

/// Parses the form of a new key.
pub(super) fn parse(form: &Form, now: UnixMillis) -> ParsedKey {
    let (settings, mut errors) = settings_text(form, now);
    let (name, environment) = (form.text("name").to_owned(), form.text("environment").to_owned());
    let parsed = KeyText { name, environment, settings, digest: None, hint: None }.parse();
    errors.extend(parsed.errors);
    ParsedKey { errors, ..parsed }
}

/// Parses the form of a change, with all settings that it shows.
pub(super) fn parse_settings(form: &Form, now: UnixMillis) -> (Settings, Vec<Error>) {
    let (text, mut errors) = settings_text(form, now);
    let (settings, wrong) = text.parse();
    errors.extend(wrong);
    (settings, errors)
}

/// The settings of a form, and the errors of fields that only forms have: numbers as text, and the selected lifetime.
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
    fn a_form_becomes_a_create_request() {
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
    fn invalid_values_are_reported_at_their_field() {
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
    fn an_expiry_is_in_utc() {
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
