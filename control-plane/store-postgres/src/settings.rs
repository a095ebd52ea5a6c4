//! How to reach the database.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use omniflow_files::secret::{self, SecretFileError};

/// The parameters of a URL that are supported. The driver would log and ignore others, which could be a mistyped password.
const PARAMETERS: [&str; 5] = ["application_name", "host", "sslcert", "sslkey", "sslmode"];

/// A valid database URL. Its `Debug` and `Display` forms have no password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(Url);

/// Where the database is and how connections to it are protected and authenticated.
#[derive(Clone, Debug)]
pub struct PostgresSettings {
    /// The server, the user and the database.
    pub url: DatabaseUrl,
    /// A file with the password. It is read again when the server rejects the password. Without it, the password is that of the
    /// URL, or else of the environment variable `PGPASSWORD`.
    pub password_file: Option<PathBuf>,
    /// A PEM file with the certificate authorities of the server; the operating system's if `None`.
    pub ca_file: Option<PathBuf>,
}

/// Why a database URL is invalid.
#[derive(Debug, thiserror::Error)]
pub enum InvalidUrl {
    /// It is not a URL.
    #[error("it is not a URL: {0}")]
    Syntax(#[from] url::ParseError),
    /// It has another scheme.
    #[error("it does not begin with postgres://")]
    Scheme,
    /// It has a parameter that is not supported.
    #[error("the parameter {0} is not supported; supported are {list}", list = PARAMETERS.join(", "))]
    Parameter(String),
    /// It has no database.
    #[error("it names no database: use postgres://USER@HOST:PORT/DATABASE")]
    Database,
    /// A parameter has an invalid value.
    #[error(
        "the value of a parameter is invalid: sslmode is disable, prefer, require, verify-ca or verify-full"
    )]
    Value,
}

// === impl DatabaseUrl ===

impl FromStr for DatabaseUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let url = Url::parse(text)?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(InvalidUrl::Scheme);
        }
        if let Some((name, _)) = url.query_pairs().find(|(name, _)| !PARAMETERS.contains(&&**name)) {
            return Err(InvalidUrl::Parameter(name.into_owned()));
        }
        if url.path().trim_start_matches('/').is_empty() {
            return Err(InvalidUrl::Database);
        }
        PgConnectOptions::from_url(&url).map_err(|_| InvalidUrl::Value)?;
        Ok(Self(url))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.0.clone();
        // Fails only for URLs without a host, which have no password either.
        let _ = url.set_password(None);
        f.write_str(url.as_str())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

impl DatabaseUrl {
    /// Whether the URL contains a password.
    pub fn has_password(&self) -> bool {
        self.0.password().is_some()
    }
}

// === impl PostgresSettings ===

impl PostgresSettings {
    /// The settings of a URL alone.
    pub fn new(url: DatabaseUrl) -> Self {
        Self { url, password_file: None, ca_file: None }
    }

    /// The options of a connection, with the current password.
    ///
    /// # Errors
    ///
    /// Fails if the password cannot be read from its file.
    pub(crate) fn connect_options(&self) -> Result<PgConnectOptions, SecretFileError> {
        // The URL was parsed before.
        let mut options = PgConnectOptions::from_url(&self.url.0)
            .unwrap_or_else(|_| PgConnectOptions::new_without_pgpass())
            .disable_statement_logging();
        if self.url.0.query_pairs().all(|(name, _)| name != "application_name") {
            options = options.application_name("omf");
        }
        if let Some(file) = &self.ca_file {
            options = options.ssl_root_cert(file);
            // A certificate authority is there to be checked, also if the URL says nothing.
            if matches!(options.get_ssl_mode(), PgSslMode::Allow | PgSslMode::Prefer | PgSslMode::Require) {
                options = options.ssl_mode(PgSslMode::VerifyFull);
            }
        }
        if let Some(file) = &self.password_file {
            let text = secret::read_text(file)?;
            options = options.password(text.trim_end_matches(['\r', '\n']));
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_shown_without_its_password() {
        let url: DatabaseUrl =
            "postgres://omf:s3cret@db.example:5433/omf?sslmode=verify-full".parse().unwrap();
        for shown in
            [url.to_string(), format!("{url:?}"), format!("{:?}", PostgresSettings::new(url.clone()))]
        {
            assert!(!shown.contains("s3cret"), "{shown}");
            assert!(shown.contains("postgres://omf@db.example:5433/omf"), "{shown}");
        }
        assert!(url.has_password());
    }

    #[test]
    fn invalid_urls_are_rejected_without_showing_them() {
        for (text, part) in [
            ("omniflow.db", "not a URL"),
            ("mysql://omf:s3cret@db/omf", "postgres://"),
            ("postgres://omf:s3cret@db/omf?passwd=s3cret", "passwd"),
            ("postgres://omf:s3cret@db/omf?password=s3cret", "password"),
            ("postgres://omf:s3cret@db/omf?sslmode=s3cret", "sslmode"),
            ("postgres://omf:s3cret@db", "names no database"),
            ("postgres://omf:s3cret@db:port/omf", "not a URL"),
        ] {
            let error = text.parse::<DatabaseUrl>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
