//! The configuration of `omf serve`, from flags, environment variables, a file and defaults, in this order of precedence.
//! Values from all sources are checked in the same way, and all errors are reported at once.

mod file;
mod probe;
mod setting;
mod values;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use omniflow_console::state::EffectiveSetting;
use omniflow_policy::key::KeyPrefix;
use tracing_subscriber::filter::Targets;

pub(crate) use self::probe::probe;
pub(crate) use self::setting::Setting;
use omniflow_net::tls::TlsFiles;
use omniflow_outbound::http_sink::parse_url;
use omniflow_outbound::otlp::OtlpSettings;
use omniflow_outbound::webhook::WebhookSettings;

/// The flag that names a configuration file, without its dashes.
pub(crate) const FILE_FLAG: &str = "config";
/// The variable that names a configuration file.
pub(crate) const FILE_VARIABLE: &str = "OMF_CONFIG";

/// The flags on the command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    /// The configuration file.
    pub(crate) file: Option<PathBuf>,
    /// Values of settings, unparsed.
    pub(crate) values: BTreeMap<Setting, OsString>,
}

/// A valid configuration.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    /// Address and port to listen on.
    pub(crate) listen: SocketAddr,
    /// Directory of the databases.
    pub(crate) data_dir: PathBuf,
    /// File to which the first start writes the owner's token; `None` for the one in the data directory.
    pub(crate) admin_token_file: Option<PathBuf>,
    /// Prefix of all keys.
    pub(crate) key_prefix: KeyPrefix,
    /// How long a gateway counts as live after its last request, in seconds.
    pub(crate) gateway_lease: u64,
    /// Age at which a key is due for rotation, in days; 0 for never.
    pub(crate) rotation_days: u64,
    /// Retention of audit records, in days.
    pub(crate) audit_days: u64,
    /// Retention of the arguments of calls, in days; at most that of audit records.
    pub(crate) payload_days: u64,
    /// Size of the audit log in MiB above which the oldest records are purged; 0 for no limit.
    pub(crate) audit_max_mib: u64,
    /// Free space in MiB that is reserved for key changes.
    pub(crate) reserve_mib: u64,
    /// File with the keys that encrypt call arguments; `None` for the one in the data directory.
    pub(crate) payload_key_file: Option<PathBuf>,
    /// The webhook for anomalies; `None` if not configured.
    pub(crate) webhook: Option<WebhookSettings>,
    /// URL of the gateways for clients, without a trailing slash; `None` if not configured.
    pub(crate) gateway_url: Option<String>,
    /// The OTLP receiver of the audit log; `None` if not configured.
    pub(crate) otlp: Option<OtlpSettings>,
    /// Certificate and key; `None` for plain HTTP.
    pub(crate) tls: Option<TlsFiles>,
    /// Log levels.
    pub(crate) log: Targets,
}

/// The result of reading a configuration.
#[derive(Debug)]
pub(crate) struct Resolution {
    /// The value of each setting, valid or not, in the order of [`Setting::ALL`].
    pub(crate) resolved: Vec<ResolvedSetting>,
    /// The configuration; `None` if there are problems.
    pub(crate) configuration: Option<Configuration>,
    /// Errors in the configuration.
    pub(crate) problems: Vec<Problem>,
    /// Warnings, which do not prevent a start.
    pub(crate) warnings: Vec<Problem>,
    /// Whether the configuration file cannot be read, so that its settings are unknown.
    pub(crate) is_file_unread: bool,
}

/// The value of a setting and its source.
#[derive(Clone, Debug)]
pub(crate) struct ResolvedSetting {
    /// The setting.
    pub(crate) setting: Setting,
    /// The value, unparsed. A relative path in a file is joined to the directory of the file. `None` if the setting has
    /// no value and no default.
    pub(crate) value: Option<OsString>,
    /// The source of the value.
    pub(crate) origin: Origin,
}

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A flag.
    Flag,
    /// An environment variable.
    Environment,
    /// A line of the file, counted from 1.
    File {
        /// Path of the file.
        path: PathBuf,
        /// Number of the line.
        line: usize,
    },
    /// The default.
    Default,
}

/// An error in the configuration: where, what, and how to correct it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem(pub(crate) String);

/// Problems that prevent a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

// === impl Resolution ===

impl Resolution {
    /// Reads a configuration. `variable` returns the value of an environment variable; an empty one counts as not set.
    pub(crate) fn new(flags: &Flags, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let path = flags.file.clone().or_else(|| variable(FILE_VARIABLE).map(PathBuf::from));
        let mut problems = Vec::new();
        let from_file = path.map_or_else(|| Some(BTreeMap::new()), |path| file::read(&path, &mut problems));
        let is_file_unread = from_file.is_none();
        let mut from_file = from_file.unwrap_or_default();
        let resolved = Setting::ALL.map(|setting| {
            let (value, origin) = if let Some(value) = flags.values.get(&setting) {
                (Some(value.clone()), Origin::Flag)
            } else if let Some(value) = variable(&setting.variable()) {
                (Some(value), Origin::Environment)
            } else if let Some((value, origin)) = from_file.remove(&setting) {
                (Some(value), origin)
            } else {
                (setting.default_value().map(OsString::from), Origin::Default)
            };
            ResolvedSetting { setting, value, origin }
        });
        let configuration = values::configuration(&resolved, &mut problems);
        let warnings = configuration.as_ref().and_then(Configuration::warning);
        let mut resolution =
            Self { resolved: resolved.into(), configuration, problems, warnings: Vec::new(), is_file_unread };
        resolution.warn(Setting::Listen, warnings);
        resolution
    }

    /// The effective settings. The URL of the webhook is reduced to its host, because its path may be a secret.
    pub(crate) fn effective(&self) -> Vec<EffectiveSetting> {
        let effective = |resolved: &ResolvedSetting| {
            let value = self.text(resolved);
            EffectiveSetting {
                name: resolved.setting.name(),
                meaning: resolved.setting.meaning(),
                value: if resolved.setting == Setting::WebhookUrl {
                    value.map(|url| host_of(&url))
                } else {
                    value
                },
                source: resolved.source(),
            }
        };
        self.resolved.iter().map(effective).collect()
    }

    /// The effective value of a setting as text: the configured one, or one derived from another setting.
    pub(crate) fn text(&self, resolved: &ResolvedSetting) -> Option<String> {
        let name = match resolved.setting {
            Setting::AdminTokenFile => Some("admin-token"),
            Setting::PayloadKeyFile => Some("payload-key"),
            _ => None,
        };
        let derived = || Some(self.path(Setting::DataDir)?.join(name?).display().to_string());
        resolved.text().or_else(derived)
    }

    /// The configuration, or all problems with it.
    pub(crate) fn configuration(self) -> Result<Configuration, Problems> {
        match self.configuration {
            Some(configuration) if self.problems.is_empty() => Ok(configuration),
            _ => Err(Problems(self.problems)),
        }
    }

    /// The data directory. Problems with other settings are ignored.
    pub(crate) fn data_dir(self) -> Result<PathBuf, Problems> {
        let is_known = !self.is_file_unread
            || self.resolved(Setting::DataDir).is_some_and(|resolved| resolved.origin != Origin::Default);
        match self.path(Setting::DataDir).filter(|_| is_known) {
            Some(path) => Ok(path),
            None => Err(Problems(self.problems)),
        }
    }

    /// Adds warnings about a setting.
    fn warn(&mut self, setting: Setting, what: impl IntoIterator<Item = String>) {
        let warnings: Vec<_> =
            what.into_iter().filter_map(|what| Some(self.resolved(setting)?.problem(&what))).collect();
        self.warnings.extend(warnings);
    }

    /// The resolved value of a setting.
    pub(crate) fn resolved(&self, setting: Setting) -> Option<&ResolvedSetting> {
        self.resolved.iter().find(|resolved| resolved.setting == setting)
    }

    /// The path in a setting.
    pub(crate) fn path(&self, setting: Setting) -> Option<PathBuf> {
        self.resolved(setting)?.value.as_ref().filter(|value| !value.is_empty()).map(PathBuf::from)
    }
}

/// The URL of a receiver without its path, which may be a secret. Empty if the URL is invalid.
fn host_of(url: &str) -> String {
    match parse_url(url) {
        Ok(url) => format!("{}/…", url.origin().ascii_serialization()),
        Err(_) => String::new(),
    }
}

// === impl Configuration ===

impl Configuration {
    /// A warning about settings that work but are not safe.
    pub(crate) fn warning(&self) -> Option<String> {
        let is_open = self.tls.is_none() && !self.listen.ip().to_canonical().is_loopback();
        is_open.then(|| {
            format!(
                "{} accepts connections from other hosts without TLS, so keys and tokens are sent unencrypted. Set \
                 tls_certificate and tls_key, or terminate TLS in front of omf",
                self.listen
            )
        })
    }
}

// === impl ResolvedSetting ===

impl ResolvedSetting {
    /// A problem with this value. `what` describes it and how to correct it.
    fn problem(&self, what: &str) -> Problem {
        let name = self.setting.name();
        Problem(match &self.origin {
            Origin::File { path, line } => format!("{} line {line}: {name}: {what}", path.display()),
            Origin::Flag => format!("--{}: {what}", self.setting.flag()),
            Origin::Environment => format!("{}: {what}", self.setting.variable()),
            Origin::Default => format!("{name}: {what}"),
        })
    }

    /// The source of the value, as text.
    pub(crate) fn source(&self) -> String {
        match &self.origin {
            Origin::Flag => format!("flag --{}", self.setting.flag()),
            Origin::Environment => format!("environment {}", self.setting.variable()),
            Origin::File { path, line } => format!("file {} line {line}", path.display()),
            Origin::Default => "default".to_owned(),
        }
    }

    /// The value as text.
    pub(crate) fn text(&self) -> Option<String> {
        self.value.as_ref().map(|value| value.to_string_lossy().into_owned())
    }
}

// === impl Problems ===

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [Problem(only)] => write!(formatter, "the configuration has 1 problem:\n  {only}"),
            all => {
                write!(formatter, "the configuration has {} problems:", all.len())?;
                all.iter().try_for_each(|Problem(one)| write!(formatter, "\n  {one}"))
            }
        }
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(values: &[(Setting, &str)]) -> Flags {
        let values = values.iter().map(|(setting, value)| (*setting, OsString::from(value))).collect();
        Flags { file: None, values }
    }

    fn environment(values: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
        let values: BTreeMap<String, OsString> =
            values.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
        move |name| values.get(name).cloned()
    }

    #[test]
    fn flags_come_before_the_environment_before_the_file_before_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("omf.toml");
        std::fs::write(
            &path,
            "listen = \"127.0.0.1:1\"\ngateway_lease = 1\nrotation_days = 1\ndata_dir = 'd'\n",
        )
        .unwrap();
        let named = |value: &str| Setting::ALL.into_iter().find(|setting| setting.name() == value).unwrap();
        let command_line = Flags { file: Some(path.clone()), ..flags(&[(named("listen"), "127.0.0.1:3")]) };
        let variables = [
            ("OMF_LISTEN", "127.0.0.1:2"),
            ("OMF_GATEWAY_LEASE", "2"),
            ("OMF_ROTATION_DAYS", ""),
            ("OMF_CONFIG", "/nowhere"),
        ];
        let resolution = Resolution::new(&command_line, environment(&variables));
        let source = |name: &str| resolution.resolved(named(name)).unwrap().origin.clone();
        assert_eq!(source("listen"), Origin::Flag);
        assert_eq!(source("gateway_lease"), Origin::Environment);
        assert_eq!(
            source("rotation_days"),
            Origin::File { path, line: 3 },
            "an empty variable counts as not set"
        );
        assert_eq!(source("log"), Origin::Default);
        let configuration = resolution.configuration().unwrap();
        assert_eq!(configuration.listen.port(), 3);
        assert_eq!((configuration.gateway_lease, configuration.rotation_days), (2, 1));
        assert_eq!(configuration.data_dir, folder.path().join("d"), "from the folder of the file");
    }

    #[test]
    fn an_empty_variable_names_no_file() {
        let resolution = Resolution::new(&Flags::default(), environment(&[("OMF_CONFIG", "")]));
        let configuration = resolution.configuration().unwrap();
        assert_eq!(configuration.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(configuration.data_dir, PathBuf::from("omniflow-data"));
        assert!(configuration.tls.is_none() && configuration.admin_token_file.is_none());
    }

    #[test]
    fn a_value_is_checked_the_same_wherever_it_comes_from() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("omf.toml");
        for (setting, wrong, written) in [
            (Setting::Listen, "localhost:1", "'localhost:1'"),
            (Setting::DataDir, "", "''"),
            (Setting::AdminTokenFile, "", "''"),
            (Setting::KeyPrefix, "Omf", "'Omf'"),
            (Setting::GatewayLease, "0", "0"),
            (Setting::GatewayLease, "86401", "86401"),
            (Setting::RotationDays, "-1", "-1"),
            (Setting::RotationDays, "36501", "36501"),
            (Setting::AuditDays, "0", "0"),
            (Setting::AuditDays, "3651", "3651"),
            (Setting::PayloadDays, "0", "0"),
            (Setting::PayloadDays, "91", "91"),
            (Setting::PayloadKeyFile, "", "''"),
            (Setting::WebhookSecretFile, "/k", "'/k'"),
            (Setting::Log, "loud", "'loud'"),
            (Setting::Log, "h2=loud", "'h2=loud'"),
            (Setting::TlsKey, "/k", "'/k'"),
        ] {
            std::fs::write(&path, format!("\n{} = {written}\n", setting.name())).unwrap();
            let what = |resolution: Resolution, place: &str| {
                let problems = resolution.configuration().unwrap_err().0;
                assert_eq!(problems.len(), 1, "{problems:?}");
                let what = problems[0].0.strip_prefix(&format!("{place}: "));
                what.unwrap_or_else(|| panic!("{problems:?} does not begin with {place}")).to_owned()
            };
            let flag = what(
                Resolution::new(&flags(&[(setting, wrong)]), environment(&[])),
                &format!("--{}", setting.flag()),
            );
            let file = Flags { file: Some(path.clone()), ..Flags::default() };
            let place = format!("{} line 2: {}", path.display(), setting.name());
            assert_eq!(what(Resolution::new(&file, environment(&[])), &place), flag);
            if !wrong.is_empty() {
                let variable = setting.variable();
                let resolution = Resolution::new(&Flags::default(), environment(&[(&variable, wrong)]));
                assert_eq!(what(resolution, &variable), flag);
            }
        }
    }

    #[test]
    fn payloads_are_kept_no_longer_than_their_records() {
        for (audit_days, payload_days, kept) in
            [("90", None, Some(7)), ("5", None, Some(5)), ("5", Some("5"), Some(5)), ("5", Some("7"), None)]
        {
            let mut command_line = flags(&[(Setting::AuditDays, audit_days)]);
            command_line.values.extend(payload_days.map(|days| (Setting::PayloadDays, days.into())));
            let configuration = Resolution::new(&command_line, environment(&[])).configuration();
            assert_eq!(configuration.ok().map(|configuration| configuration.payload_days), kept);
        }
    }

    #[test]
    fn what_can_be_called_from_elsewhere_speaks_tls() {
        for (listen, tls, warnings) in [
            ("127.0.0.1:1", false, 0),
            ("[::1]:1", false, 0),
            ("[::ffff:127.0.0.1]:1", false, 0),
            ("0.0.0.0:1", false, 1),
            ("[::]:1", false, 1),
            ("192.0.2.1:1", false, 1),
            ("0.0.0.0:1", true, 0),
        ] {
            let mut command_line = flags(&[(Setting::Listen, listen)]);
            if tls {
                command_line
                    .values
                    .extend([Setting::TlsCertificate, Setting::TlsKey].map(|one| (one, "x".into())));
            }
            let resolution = Resolution::new(&command_line, environment(&[]));
            assert_eq!(resolution.warnings.len(), warnings, "{listen}");
            assert!(resolution.problems.is_empty(), "{listen}");
        }
    }

    #[test]
    fn the_data_directory_is_known_without_the_rest_and_never_guessed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("omf.toml");
        let read = |text: &str, command_line: &[(Setting, &str)], variables: &[(&str, &str)]| {
            std::fs::write(&file, text).unwrap();
            let flags = Flags { file: Some(file.clone()), ..flags(command_line) };
            Resolution::new(&flags, environment(variables)).data_dir()
        };
        let wrong = "listen = 'x'\ndata_dir = 'd'\n";
        assert_eq!(read(wrong, &[], &[("OMF_DATA_DIR", "")]), Ok(folder.path().join("d")));
        assert_eq!(read(wrong, &[], &[("OMF_DATA_DIR", "e")]), Ok("e".into()));
        assert_eq!(read("= 1", &[(Setting::DataDir, "f")], &[]), Ok("f".into()));
        let problems = read("= 1\ndata_dir = 'd'\n", &[], &[]).unwrap_err();
        assert!(problems.to_string().contains("invalid TOML"), "{problems}");
        assert!(read("data_dir = ''", &[], &[]).unwrap_err().to_string().contains("line 1"));
    }

    #[test]
    fn all_problems_are_reported() {
        let given = flags(&[(Setting::Listen, "x"), (Setting::KeyPrefix, "X"), (Setting::TlsKey, "k")]);
        let problems = Resolution::new(&given, environment(&[("OMF_LOG", "x")])).configuration().unwrap_err();
        let text = problems.to_string();
        assert!(text.starts_with("the configuration has 4 problems:\n  --listen: "), "{text}");
    }

    #[test]
    fn a_webhook_url_is_shown_without_its_path() {
        for (url, shown) in [
            ("https://hooks.example.com/services/SECRET", "https://hooks.example.com/…"),
            ("https://hooks.example.com\\services\\SECRET", "https://hooks.example.com/…"),
            ("https:/hooks.example.com/SECRET?next=http://x", "https://hooks.example.com/…"),
            ("http://127.0.0.1:8080/SECRET", "http://127.0.0.1:8080/…"),
            ("https://user:SECRET@hooks.example.com/", ""),
        ] {
            assert_eq!(host_of(url), shown, "{url}");
        }
    }
}
