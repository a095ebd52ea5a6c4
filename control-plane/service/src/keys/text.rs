//! Parses requests about keys that arrive as text, and reports every error at once. `api` and `console` share it.

use omniflow_domain::error::Error;
use omniflow_domain::name::Name;
use omniflow_policy::key::Environment;
use omniflow_policy::limit::RateLimit;

use super::create::{Create, ImportedKey};
use super::settings::Settings;
use crate::fields;

/// A new key, as text.
#[derive(Clone, Debug, Default)]
pub struct KeyText {
    /// Its name.
    pub name: String,
    /// `live` or `test`.
    pub environment: String,
    /// Its settings.
    pub settings: SettingsText,
    /// For an imported key: its SHA-256 in hexadecimal digits.
    pub digest: Option<String>,
    /// For an imported key: its last characters.
    pub hint: Option<String>,
}

/// Settings of a key, as text. Absent fields stay absent.
#[derive(Clone, Debug, Default)]
pub struct SettingsText {
    /// All scopes.
    pub scopes: Option<Vec<String>>,
    /// All limits.
    pub rate_limit: Option<RateLimit>,
    /// All addresses and networks.
    pub ip_allowlist: Option<Vec<String>>,
    /// When the key expires, in RFC 3339; `Some(None)` for never.
    pub expires_at: Option<Option<String>>,
    /// Its purpose.
    pub description: Option<String>,
}

/// The fields of a new key that could be read, and the errors of the others.
#[derive(Clone, Debug)]
pub struct ParsedKey {
    /// Its name.
    pub name: Option<Name>,
    /// Its environment.
    pub environment: Option<Environment>,
    /// Its settings, without those that could not be read.
    pub settings: Settings,
    /// The identification of an imported key.
    pub imported: Option<ImportedKey>,
    /// The errors, at most one for each field.
    pub errors: Vec<Error>,
}

// === impl KeyText ===

impl KeyText {
    /// Reads all fields.
    pub fn parse(self) -> ParsedKey {
        let Self { name, environment, settings, digest, hint } = self;
        let mut errors = Vec::new();
        let name = keep(fields::name(&name), &mut errors);
        let environment = keep(fields::environment(&environment), &mut errors);
        let (settings, wrong) = settings.parse();
        errors.extend(wrong);
        let imported = keep(imported(digest.as_deref(), hint), &mut errors).flatten();
        ParsedKey { name, environment, settings, imported, errors }
    }
}

fn imported(digest: Option<&str>, hint: Option<String>) -> Result<Option<ImportedKey>, Error> {
    match (digest, hint) {
        (Some(digest), hint) => ImportedKey::new(fields::digest(digest)?, hint.unwrap_or_default()).map(Some),
        (None, Some(_)) => Err(Error::invalid_field(
            "/hint",
            "hint is only for imported keys: send digest as well, or omit hint",
        )),
        (None, None) => Ok(None),
    }
}

// === impl SettingsText ===

impl SettingsText {
    /// The settings that could be read, and the errors of the others.
    pub fn parse(self) -> (Settings, Vec<Error>) {
        let Self { scopes, rate_limit, ip_allowlist, expires_at, description } = self;
        let mut errors = Vec::new();
        let scopes = scopes.and_then(|texts| keep(fields::scopes(&texts), &mut errors));
        let ip_allowlist = ip_allowlist.and_then(|texts| keep(fields::ip_allowlist(&texts), &mut errors));
        let expires_at = expires_at.and_then(|text| {
            let read = text.as_deref().map(fields::expires_at).transpose();
            keep(read, &mut errors)
        });
        (Settings { scopes, rate_limit, ip_allowlist, expires_at, description }, errors)
    }
}

// === impl ParsedKey ===

impl ParsedKey {
    /// The request, without a wait.
    ///
    /// # Errors
    ///
    /// The first of the errors.
    pub fn into_request(self) -> Result<Create, Error> {
        let Self { name, environment, settings, imported, errors } = self;
        match (errors.into_iter().next(), name, environment) {
            (None, Some(name), Some(environment)) => {
                Ok(Create { name, environment, settings, imported, wait: None })
            }
            (error, ..) => Err(error.unwrap_or_else(Error::internal)),
        }
    }
}

/// The value, or its error in the list.
fn keep<T>(read: Result<T, Error>, errors: &mut Vec<Error>) -> Option<T> {
    read.map_err(|error| errors.push(error)).ok()
}
