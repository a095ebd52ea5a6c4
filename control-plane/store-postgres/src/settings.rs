//! How to reach the database.
//!
//! Only the settings of this process count. The driver would also read environment variables of libpq and `~/.pgpass`; if
//! one that no option replaces is set, the connection fails.

use std::env;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::{Host, Url};

use omniflow_files::secret::{self, SecretFileError};
use zeroize::Zeroizing;

/// The port of a URL without one.
const DEFAULT_PORT: u16 = 5432;
/// The parameters of a URL that are supported.
const PARAMETERS: &str = "application_name, host, sslcert, sslkey, sslmode";
/// Variables that the driver reads and that no option replaces.
const VARIABLES: [&str; 3] = ["PGOPTIONS", "PGSSLCERT", "PGSSLKEY"];

/// A valid database URL. Its `Debug` and `Display` forms have no password and no parameters.
#[derive(Clone)]
pub struct DatabaseUrl {
    /// User, host, port and database.
    shown: String,
    user: String,
    password: Option<Zeroizing<String>>,
    host: String,
    port: u16,
    database: String,
    /// The folder of a Unix socket, which replaces the host.
    socket: Option<PathBuf>,
    /// How the connection is protected, if the URL states it.
    ssl_mode: Option<PgSslMode>,
    /// The certificate of the client and its key.
    client_certificate: Option<(PathBuf, PathBuf)>,
    application_name: String,
}

/// Where the database is and how connections to it are protected and authenticated.
#[derive(Clone, Debug)]
pub struct PostgresSettings {
    /// The server, the user and the database.
    pub url: DatabaseUrl,
    /// A file with the password. It is read again when the server rejects the password. Without it, the password is that of
    /// the URL.
    pub password_file: Option<PathBuf>,
    /// A PEM file with certificate authorities of the server, besides the public ones.
    pub ca_file: Option<PathBuf>,
}

/// Why a database URL is invalid. No error contains a part of the URL: an unescaped character can make any part of it a piece of
/// the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// It is not a URL.
    #[error("it is not a URL: {0}")]
    Syntax(#[from] url::ParseError),
    /// It has another scheme, or none.
    #[error("it does not begin with postgres://")]
    Scheme,
    /// It has no user, or one with a colon.
    #[error("it names no valid user: use postgres://USER@HOST:PORT/DATABASE")]
    User,
    /// It has no host.
    #[error("it names no valid host: use postgres://USER@HOST:PORT/DATABASE")]
    Host,
    /// It has no database.
    #[error("it names no database: use postgres://USER@HOST:PORT/DATABASE")]
    Database,
    /// A character ends the part that it belongs to.
    #[error(
        "a part of it is ambiguous: write / as %2F, ? as %3F, # as %23, @ as %40 and : as %3A in the user, password and database"
    )]
    Ambiguous,
    /// A parameter is not supported. The driver would log and ignore it.
    #[error("it has a parameter that is not supported; supported are {PARAMETERS}")]
    Parameter,
    /// A parameter has an invalid value.
    #[error(
        "the value of a parameter is invalid: sslmode is disable, prefer, require, verify-ca or verify-full; host is the \
         folder of a Unix socket; sslcert and sslkey are files and are stated together"
    )]
    Value,
}

/// Why connections cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The file with the password cannot be used.
    #[error("the password file: {0}")]
    Password(SecretFileError),
    /// An environment variable would change the connections.
    #[error("the environment variable {0} is set, and is not supported; remove it, and use the database URL")]
    Variable(&'static str),
}

// === impl DatabaseUrl ===

impl FromStr for DatabaseUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let url = Url::parse(text)?;
        if !matches!(url.scheme(), "postgres" | "postgresql") || !url.has_authority() {
            return Err(InvalidUrl::Scheme);
        }
        if url.fragment().is_some() {
            return Err(InvalidUrl::Ambiguous);
        }
        let user = decoded(url.username())?;
        if user.is_empty() || user.contains(':') {
            return Err(InvalidUrl::User);
        }
        let path = url.path().trim_start_matches('/');
        if path.is_empty() {
            return Err(InvalidUrl::Database);
        }
        if path.contains(['/', '@', ':']) {
            return Err(InvalidUrl::Ambiguous);
        }
        let host = host(&url)?;
        let port = url.port().unwrap_or(DEFAULT_PORT);
        let parameters = Parameters::of(&url)?;
        Ok(Self {
            shown: format!(
                "postgres://{}@{}:{port}/{path}",
                url.username(),
                url.host_str().unwrap_or_default()
            ),
            user,
            password: url.password().map(decoded).transpose()?.map(Zeroizing::new),
            host,
            port,
            database: decoded(path)?,
            socket: parameters.socket,
            ssl_mode: parameters.ssl_mode,
            client_certificate: parameters.client_certificate,
            application_name: parameters.application_name.unwrap_or_else(|| "omf".to_owned()),
        })
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
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
        self.password.is_some()
    }

    /// How connections are protected: as stated; otherwise without TLS through a Unix socket, with TLS if the server offers it
    /// on this machine, and with TLS and a valid certificate through a network.
    fn ssl_mode(&self) -> PgSslMode {
        self.ssl_mode.unwrap_or_else(|| {
            if self.socket.is_some() {
                PgSslMode::Disable
            } else if is_loopback(&self.host) {
                PgSslMode::Prefer
            } else {
                PgSslMode::VerifyFull
            }
        })
    }
}

fn decoded(text: &str) -> Result<String, InvalidUrl> {
    percent_decode_str(text).decode_utf8().map(Into::into).map_err(|_| InvalidUrl::Ambiguous)
}

fn host(url: &Url) -> Result<String, InvalidUrl> {
    match url.host() {
        Some(Host::Domain(name)) if !name.is_empty() && !name.contains('%') => Ok(name.to_owned()),
        Some(Host::Ipv4(address)) => Ok(address.to_string()),
        Some(Host::Ipv6(address)) => Ok(address.to_string()),
        _ => Err(InvalidUrl::Host),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The parameters of a URL.
#[derive(Default)]
struct Parameters {
    socket: Option<PathBuf>,
    ssl_mode: Option<PgSslMode>,
    client_certificate: Option<(PathBuf, PathBuf)>,
    application_name: Option<String>,
}

// === impl Parameters ===

impl Parameters {
    fn of(url: &Url) -> Result<Self, InvalidUrl> {
        let (mut found, mut certificate, mut key) = (Self::default(), None, None);
        for (name, value) in url.query_pairs() {
            match &*name {
                "application_name" => found.application_name = Some(value.into_owned()),
                "host" if value.starts_with('/') => found.socket = Some(PathBuf::from(&*value)),
                "host" => return Err(InvalidUrl::Value),
                "sslcert" => certificate = Some(PathBuf::from(&*value)),
                "sslkey" => key = Some(PathBuf::from(&*value)),
                "sslmode" => found.ssl_mode = Some(ssl_mode(&value)?),
                _ => return Err(InvalidUrl::Parameter),
            }
        }
        if certificate.is_some() != key.is_some() {
            return Err(InvalidUrl::Value);
        }
        found.client_certificate = certificate.zip(key);
        Ok(found)
    }
}

/// The driver treats `allow` as `disable`, so it is not supported.
fn ssl_mode(text: &str) -> Result<PgSslMode, InvalidUrl> {
    match text {
        "disable" => Ok(PgSslMode::Disable),
        "prefer" => Ok(PgSslMode::Prefer),
        "require" => Ok(PgSslMode::Require),
        "verify-ca" => Ok(PgSslMode::VerifyCa),
        "verify-full" => Ok(PgSslMode::VerifyFull),
        _ => Err(InvalidUrl::Value),
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
    /// Fails if the password cannot be read from its file, or if an environment variable would change the options.
    pub(crate) fn connect_options(&self) -> Result<PgConnectOptions, OptionsError> {
        if let Some(variable) = VARIABLES.into_iter().find(|name| env::var_os(name).is_some()) {
            return Err(OptionsError::Variable(variable));
        }
        let url = &self.url;
        // Everything that the driver takes from the environment is replaced, also by nothing.
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(&url.host)
            .port(url.port)
            .username(&url.user)
            .password("")
            .database(&url.database)
            .ssl_mode(url.ssl_mode())
            .ssl_root_cert_from_pem(Vec::new())
            .application_name(&url.application_name)
            .disable_statement_logging();
        if let Some(socket) = &url.socket {
            options = options.socket(socket);
        }
        if let Some((certificate, key)) = &url.client_certificate {
            options = options.ssl_client_cert(certificate).ssl_client_key(key);
        }
        if let Some(file) = &self.ca_file {
            options = options.ssl_root_cert(file);
            // A certificate authority is there to be checked, also if the URL says nothing.
            if matches!(options.get_ssl_mode(), PgSslMode::Prefer | PgSslMode::Require) {
                options = options.ssl_mode(PgSslMode::VerifyFull);
            }
        }
        if let Some(file) = &self.password_file {
            let text = secret::read_text(file).map_err(OptionsError::Password)?;
            options = options.password(text.trim_end_matches(['\r', '\n']));
        } else if let Some(password) = &url.password {
            options = options.password(password);
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn options(url: &str) -> PgConnectOptions {
        PostgresSettings::new(url.parse().unwrap()).connect_options().unwrap()
    }

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
        for (text, error) in [
            ("s3cret.db", InvalidUrl::Syntax(url::ParseError::RelativeUrlWithoutBase)),
            ("mysql://omf:s3cret@db/omf", InvalidUrl::Scheme),
            // Without the slashes, everything is the path of a URL that has neither a host nor a password.
            ("postgres:omf:s3cret@db/omf", InvalidUrl::Scheme),
            ("postgres:/omf:s3cret@db/omf", InvalidUrl::Scheme),
            ("postgres://s3cret/omf", InvalidUrl::User),
            ("postgres://omf%3As3cret@db/omf", InvalidUrl::User),
            ("postgres://omf:s3cret@/omf", InvalidUrl::Syntax(url::ParseError::EmptyHost)),
            ("postgres://omf:s3cret@db", InvalidUrl::Database),
            ("postgres://omf:s3cret@db:port/omf", InvalidUrl::Syntax(url::ParseError::InvalidPort)),
            ("postgres://omf:s3cret@db/omf?passwd=s3cret", InvalidUrl::Parameter),
            ("postgres://omf:s3cret@db/omf?password=s3cret", InvalidUrl::Parameter),
            ("postgres://omf:s3cret@db/omf?s3cret=1", InvalidUrl::Parameter),
            ("postgres://omf:s3cret@db/omf?sslmode=s3cret", InvalidUrl::Value),
            ("postgres://omf:s3cret@db/omf?sslmode=allow", InvalidUrl::Value),
            ("postgres://omf:s3cret@db/omf?host=s3cret", InvalidUrl::Value),
            ("postgres://omf:s3cret@db/omf?sslcert=/s3cret", InvalidUrl::Value),
            // Passwords with characters that end the host: the rest becomes another part.
            ("postgres://omf:1?s3cret@db/omf", InvalidUrl::User),
            ("postgres://omf:1/s3cret@db/omf", InvalidUrl::User),
            ("postgres://omf:1#s3cret@db/omf", InvalidUrl::Ambiguous),
            ("postgres://omf:a@b?s3cret@db/omf", InvalidUrl::Database),
            ("postgres://omf:a@b/c?s3cret@db/omf", InvalidUrl::Parameter),
            ("postgres://omf:a@b/s3cret@db/omf", InvalidUrl::Ambiguous),
            ("postgres://omf:a@b#s3cret@db/omf", InvalidUrl::Ambiguous),
            ("postgres://omf:s3cret@db/omf#s3cret", InvalidUrl::Ambiguous),
        ] {
            let found = text.parse::<DatabaseUrl>().unwrap_err();
            assert_eq!(found, error, "{text}");
            let shown = format!("{found} {found:?}");
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }

    #[test]
    fn password_with_an_at_sign_is_not_a_part_of_the_host() {
        let url: DatabaseUrl = "postgres://omf:s3@cret@db/omf".parse().unwrap();
        assert_eq!(url.to_string(), "postgres://omf@db:5432/omf");
        assert_eq!(url.password.unwrap().as_str(), "s3@cret");
    }

    #[test]
    fn connections_through_a_network_are_authenticated() {
        for (url, mode) in [
            ("postgres://omf@db.example/omf", "VerifyFull"),
            ("postgres://omf@192.0.2.1/omf", "VerifyFull"),
            ("postgres://omf@[2001:db8::1]/omf", "VerifyFull"),
            ("postgres://omf@localhost.example/omf", "VerifyFull"),
            ("postgres://omf@db.example/omf?sslmode=prefer", "Prefer"),
            ("postgres://omf@db.example/omf?sslmode=disable", "Disable"),
            ("postgres://omf@localhost/omf", "Prefer"),
            ("postgres://omf@127.0.0.2/omf", "Prefer"),
            ("postgres://omf@[::1]/omf", "Prefer"),
            ("postgres://omf@db.example/omf?host=/run/postgresql", "Disable"),
        ] {
            assert_eq!(format!("{:?}", options(url).get_ssl_mode()), mode, "{url}");
        }
        assert_eq!(options("postgres://omf@[::1]/omf").get_host(), "::1");
        let settings = PostgresSettings {
            ca_file: Some("/ca.pem".into()),
            ..PostgresSettings::new("postgres://omf@localhost/omf".parse().unwrap())
        };
        let with_ca = settings.connect_options().unwrap();
        assert!(matches!(with_ca.get_ssl_mode(), PgSslMode::VerifyFull));
    }

    /// Run by [`environment_is_not_used`] with variables of libpq.
    #[test]
    fn options_are_those_of_the_url() {
        let found = format!("{:?}", options("postgres://omf@localhost/omf"));
        for part in [
            "host: \"localhost\"",
            "port: 5432",
            "username: \"omf\"",
            "password: Some(\"\")",
            "database: Some(\"omf\")",
            "ssl_mode: Prefer",
            "ssl_client_cert: None",
            "ssl_client_key: None",
            "application_name: Some(\"omf\")",
            "options: None",
        ] {
            assert!(found.contains(part), "{part}: {found}");
        }
        assert!(!found.contains("wr0ng"), "{found}");
    }

    #[test]
    fn environment_is_not_used() {
        let run = |variables: &[(&str, &str)]| {
            let mut child = Command::new(env::current_exe().unwrap());
            child.args(["--exact", "settings::tests::options_are_those_of_the_url"]);
            child.envs(variables.iter().copied()).output().unwrap()
        };
        let ignored = [
            ("PGHOST", "wr0ng"),
            ("PGHOSTADDR", "wr0ng"),
            ("PGPORT", "1"),
            ("PGUSER", "wr0ng"),
            ("PGPASSWORD", "wr0ng"),
            ("PGDATABASE", "wr0ng"),
            ("PGSSLMODE", "disable"),
            ("PGSSLROOTCERT", "/wr0ng"),
            ("PGAPPNAME", "wr0ng"),
        ];
        let output = run(&ignored);
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && shown.contains("1 passed"), "{shown}");
        for name in VARIABLES {
            let output = run(&[(name, "wr0ng")]);
            let shown = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success(), "{name}");
            let shown = format!("{shown}{}", String::from_utf8_lossy(&output.stdout));
            assert!(shown.contains(&format!("Variable(\"{name}\")")), "{shown}");
            assert!(!shown.contains("wr0ng"), "{shown}");
        }
    }
}
