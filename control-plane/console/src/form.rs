//! Submitted forms and their errors.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use omniflow_domain::principal::Principal;
use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;

use crate::state::Console;

use super::page::PageError;
use super::time_field::to_instant;
use super::wording::{self, sentence};
use omniflow_api_types::parameters::InvalidQuery;
use omniflow_api_types::request_error::HttpError;
use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::time::{DAY_MS, format_time};
use omniflow_service::idempotency::IdempotentRequest;

/// Field with the CSRF token of the session.
pub(super) const CSRF: &str = "csrf";
/// Name prefix of fields with secrets, whose values are never sent back.
pub(super) const SECRET: &str = "secret";
/// Field with the idempotency key of a form that creates something.
pub(super) const ATTEMPT: &str = "attempt";

/// The lifetimes to choose from: value, label and days.
const LIFETIMES: [(&str, &str, u64); 4] =
    [("30d", "30 days", 30), ("90d", "90 days", 90), ("180d", "180 days", 180), ("365d", "1 year", 365)];

/// The fields of a submitted form in their order. A field may occur several times.
///
/// The session middleware inserts it into the request after it has checked the CSRF token; handlers extract it.
#[derive(Clone, Debug, Default)]
pub(super) struct Form(Vec<(String, String)>);

/// An error of a form or of one of its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FormError {
    /// Name of the field; `None` for the form as a whole.
    pub(super) field: Option<String>,
    /// Error text.
    pub(super) text: String,
}

/// Name and label of a field.
pub(super) type Labelled = (&'static str, &'static str);

/// A choice of the expiry.
#[derive(Clone, Debug)]
pub(super) struct Lifetime {
    /// Value of the field.
    pub(super) value: &'static str,
    /// Label.
    pub(super) label: &'static str,
    /// Whether it is selected.
    pub(super) is_chosen: bool,
}

// === impl Form ===

impl Form {
    /// Reads `application/x-www-form-urlencoded`.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_urlencoded::from_bytes(bytes).ok().map(Self)
    }

    /// The trimmed value of a field; empty if the field is missing.
    pub(super) fn text(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_default()
    }

    /// The value of a field that is not empty.
    pub(super) fn stated(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// Whether it has this field, which may be empty.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(field, _)| field == name)
    }

    /// All values of a field.
    pub(super) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.trim())
    }

    /// The entries of a field, separated by line ends, spaces, commas or semicolons.
    pub(super) fn entries(&self, name: &str) -> Vec<String> {
        let separated = |c: char| c.is_whitespace() || c == ',' || c == ';';
        let entries = self.text(name).split(separated).filter(|entry| !entry.is_empty());
        entries.map(str::to_owned).collect()
    }

    /// Names and values of its fields, in their order.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The fields that may be sent back: all except the CSRF token and secrets.
    pub(super) fn returnable(&self) -> Vec<(&str, &str)> {
        self.pairs().filter(|(name, _)| *name != CSRF && !name.starts_with(SECRET)).collect()
    }

    /// The fields that may be sent back, URL-encoded.
    pub(super) fn encoded(&self) -> String {
        serde_urlencoded::to_string(self.returnable()).unwrap_or_default()
    }

    /// The form with a single value for this field.
    pub(super) fn with(&self, name: &str, value: &str) -> Self {
        let others = self.0.iter().filter(|(field, _)| field != name).cloned();
        Self(others.chain([(name.to_owned(), value.to_owned())]).collect())
    }

    /// The whole number in a field; `None` if the field is empty. `pointer` is the JSON pointer of the field in the request.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str, pointer: &str) -> Result<Option<T>, Error> {
        let read = |text: String| {
            text.parse().map_err(|_| Error::invalid_field(pointer, "enter a whole number, such as 60"))
        };
        self.stated(name).map(read).transpose()
    }

    /// Digest of all fields except the CSRF token. It is equal for a resubmitted form.
    pub(super) fn digest(&self) -> Digest {
        let mut text = String::new();
        for (name, value) in self.0.iter().filter(|(name, _)| name != CSRF) {
            // With the lengths, so that different forms have different texts.
            text.push_str(&format!("{}:{name}{}:{value}", name.len(), value.len()));
        }
        Digest::of(text.as_bytes())
    }
}

impl<S: Sync> FromRequestParts<S> for Form {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        // Only the session middleware inserts it, after its checks.
        Ok(parts.extensions.get::<Self>().cloned().ok_or_else(Error::internal)?)
    }
}

// === impl FormError ===

impl FormError {
    /// Assigns a problem to a form field. `fields` maps JSON pointers of the request to field names; a pointer also applies to
    /// everything below it.
    pub(super) fn new(problem: &Error, fields: &[(&str, &str)]) -> Self {
        let is_at = |pointer: &str, at: &str| {
            at.strip_prefix(pointer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let at = if problem.code() == ErrorCode::NameTaken { Some("/name") } else { problem.field() };
        let field = at.and_then(|at| {
            fields.iter().find(|(pointer, _)| is_at(pointer, at)).map(|(_, name)| (*name).to_owned())
        });
        Self { field, text: wording::text(problem) }
    }

    /// Assigns the errors of a search to these form `fields`.
    pub(super) fn of_search(invalid: &InvalidQuery, fields: &[&str]) -> Vec<Self> {
        invalid.errors().map(|error| Self::of_parameter(error, fields)).collect()
    }

    /// Assigns the error of a parameter to one of these form `fields`. Next to the field, the text does not repeat the name of
    /// the query parameter.
    fn of_parameter(problem: &HttpError, fields: &[&str]) -> Self {
        let detail = problem.detail();
        let field = problem.field().filter(|field| fields.contains(field));
        let rest = field.and_then(|field| detail.strip_prefix(field)).filter(|rest| rest.starts_with(' '));
        let text = rest.map_or_else(|| sentence(detail), |rest| sentence(&format!("this{rest}")));
        Self { field: field.map(str::to_owned), text }
    }
}

/// The error at a field.
pub(super) fn error_at<'e>(errors: &'e [FormError], field: &str) -> Option<&'e str> {
    let error = errors.iter().find(|error| error.field.as_deref() == Some(field))?;
    Some(&error.text)
}

/// The error of the form as a whole.
pub(super) fn general_error(errors: &[FormError]) -> Option<&str> {
    let error = errors.iter().find(|error| error.field.is_none())?;
    Some(&error.text)
}

/// The fields with errors, in the order of `labels`.
pub(super) fn invalid_fields(errors: &[FormError], labels: &[Labelled]) -> Vec<Labelled> {
    labels.iter().filter(|(field, _)| error_at(errors, field).is_some()).copied().collect()
}

/// A new idempotency key for a form.
pub(super) fn new_attempt(app: &Console) -> Result<String, Error> {
    Ok(hex::encode(app.entropy.compose(|random| [0; 16].map(|_: u8| random()))?))
}

/// The idempotent request of a form, equivalent to one of the API; `None` for a form without an idempotency key.
pub(super) fn attempt(principal: &Principal, form: &Form) -> Option<IdempotentRequest> {
    let name = form.stated(ATTEMPT)?;
    let key = Digest::of(format!("a form of a page: {name}").as_bytes());
    Some(IdempotentRequest { token: principal.id, key, request: form.digest() })
}

/// The expiry that a form selects, in RFC 3339. Browsers send a time without a zone, which is in UTC.
pub(super) fn lifetime(form: &Form, now: UnixMillis) -> Result<Option<String>, Error> {
    let days = |value: &str| LIFETIMES.iter().find(|(known, ..)| *known == value).map(|(.., days)| *days);
    match form.text("lifetime") {
        "" | "never" => Ok(None),
        "date" => match form.text("expires_at") {
            "" => Err(Error::invalid_field("/expires_at", "enter a date, or select another lifetime")),
            text => Ok(Some(to_instant(text))),
        },
        value => match days(value) {
            Some(days) => Ok(Some(format_time(UnixMillis(now.0.saturating_add(days * DAY_MS))))),
            None => Err(Error::invalid_field("/expires_at", "select one of the lifetimes")),
        },
    }
}

/// The choices of the expiry.
pub(super) fn lifetimes(chosen: &str) -> Vec<Lifetime> {
    let mut all = vec![("never", "Never")];
    all.extend(LIFETIMES.iter().map(|(value, label, _)| (*value, *label)));
    all.push(("date", "On a date"));
    let chosen = if chosen.is_empty() { "never" } else { chosen };
    all.into_iter().map(|(value, label)| Lifetime { value, label, is_chosen: value == chosen }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_encoded_fields_are_read() {
        let form = Form::parse(
            b"name=+ci+&scopes=a%3Ar&scopes=b%3Aw&empty=&list=10.0.0.0%2F8%0D%0A+%3A%3A1%2C1.2.3.4&n=60&m=x",
        )
        .unwrap();
        assert_eq!(form.text("name"), "ci");
        assert_eq!(form.all("scopes").collect::<Vec<_>>(), ["a:r", "b:w"]);
        assert_eq!((form.stated("empty"), form.stated("absent")), (None, None));
        assert_eq!(form.entries("list"), ["10.0.0.0/8", "::1", "1.2.3.4"]);
        assert_eq!(form.number::<u32>("n", "/n"), Ok(Some(60)));
        assert_eq!(form.number::<u32>("empty", "/n"), Ok(None));
        assert_eq!(form.number::<u32>("m", "/rate_limit/m").unwrap_err().field(), Some("/rate_limit/m"));
        assert!(Form::parse(b"").unwrap().text("name").is_empty());
    }

    #[test]
    fn the_digest_is_of_the_content() {
        let digest = |text: &str| Form::parse(text.as_bytes()).unwrap().digest();
        assert_eq!(digest("a=1&b=2&csrf=x"), digest("csrf=y&a=1&b=2"));
        assert_ne!(digest("a=1&b=2"), digest("a=1&b=3"));
        assert_ne!(digest("a=1b&c=2"), digest("a=1&bc=2"));
        assert_ne!(digest("ab=1"), digest("a=b1"));
    }

    #[test]
    fn errors_are_assigned_to_their_field() {
        let fields = [("/scopes", "scopes"), ("/rate_limit/burst", "burst"), ("/rate_limit", "per_minute")];
        for (pointer, expected) in [
            ("/scopes", Some("scopes")),
            ("/scopes/3", Some("scopes")),
            ("/scopesx", None),
            ("/rate_limit/burst", Some("burst")),
            ("/rate_limit/per_hour", Some("per_minute")),
            ("/name", None),
        ] {
            let error = FormError::new(&Error::invalid_field(pointer, "no"), &fields);
            assert_eq!(error.field.as_deref(), expected, "{pointer}");
            assert_eq!(error.text, "No.");
        }
        for (name, detail, expected) in [
            ("ip", "ip is an address", (Some("ip"), "This is an address.")),
            ("ip", "there is no such thing", (Some("ip"), "There is no such thing.")),
            ("cursor", "cursor is unchanged", (None, "Cursor is unchanged.")),
        ] {
            let error = FormError::of_parameter(&HttpError::invalid_query(name, detail), &["ip", "from"]);
            assert_eq!((error.field.as_deref(), error.text.as_str()), expected);
        }
    }
}
