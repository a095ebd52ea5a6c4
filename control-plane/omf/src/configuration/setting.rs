//! The settings of `omf serve`: names, types, defaults and descriptions.

/// A setting. The order is that of the help text and of the output of `omf config check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Setting {
    /// Address and port to listen on.
    Listen,
    /// Directory of the databases.
    DataDir,
    /// File to which the first start writes the owner's token.
    AdminTokenFile,
    /// Prefix of all keys.
    KeyPrefix,
    /// How long a gateway counts as live after its last request, in seconds.
    GatewayLease,
    /// Age at which a key is due for rotation, in days.
    RotationDays,
    /// Retention of audit records, in days.
    AuditDays,
    /// Retention of the arguments of calls, in days.
    PayloadDays,
    /// Maximum size of the audit log, in MiB.
    AuditMaxMib,
    /// Free space that is reserved for key changes, in MiB.
    ReserveMib,
    /// File with the keys that encrypt call arguments.
    PayloadKeyFile,
    /// URL of the webhook for anomalies.
    WebhookUrl,
    /// File with the secret that signs webhooks.
    WebhookSecretFile,
    /// URL of the gateways for clients.
    GatewayUrl,
    /// URL of the OTLP receiver of the audit log.
    OtlpEndpoint,
    /// File with additional headers for the OTLP receiver.
    OtlpHeadersFile,
    /// File with the CA certificates to trust for the OTLP receiver.
    OtlpCaFile,
    /// Certificate chain for TLS.
    TlsCertificate,
    /// Private key of the certificate.
    TlsKey,
    /// Log levels.
    Log,
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A string.
    Text,
    /// A string with a path. In a file, a relative path is relative to the directory of the file.
    Path,
    /// An integer.
    Number,
}

// === impl Setting ===

impl Setting {
    /// All settings.
    pub(crate) const ALL: [Self; 20] = [
        Self::Listen,
        Self::DataDir,
        Self::AdminTokenFile,
        Self::KeyPrefix,
        Self::GatewayLease,
        Self::RotationDays,
        Self::AuditDays,
        Self::PayloadDays,
        Self::AuditMaxMib,
        Self::ReserveMib,
        Self::PayloadKeyFile,
        Self::WebhookUrl,
        Self::WebhookSecretFile,
        Self::GatewayUrl,
        Self::OtlpEndpoint,
        Self::OtlpHeadersFile,
        Self::OtlpCaFile,
        Self::TlsCertificate,
        Self::TlsKey,
        Self::Log,
    ];

    /// The name in a file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::DataDir => "data_dir",
            Self::AdminTokenFile => "admin_token_file",
            Self::KeyPrefix => "key_prefix",
            Self::GatewayLease => "gateway_lease",
            Self::RotationDays => "rotation_days",
            Self::AuditDays => "audit_days",
            Self::PayloadDays => "payload_days",
            Self::AuditMaxMib => "audit_max_mib",
            Self::ReserveMib => "reserve_mib",
            Self::PayloadKeyFile => "payload_key_file",
            Self::WebhookUrl => "webhook_url",
            Self::WebhookSecretFile => "webhook_secret_file",
            Self::GatewayUrl => "gateway_url",
            Self::OtlpEndpoint => "otlp_endpoint",
            Self::OtlpHeadersFile => "otlp_headers_file",
            Self::OtlpCaFile => "otlp_ca_file",
            Self::TlsCertificate => "tls_certificate",
            Self::TlsKey => "tls_key",
            Self::Log => "log",
        }
    }

    /// The name of the flag, without the leading dashes.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::DataDir => "data-dir",
            Self::AdminTokenFile => "admin-token-file",
            Self::KeyPrefix => "key-prefix",
            Self::GatewayLease => "gateway-lease",
            Self::RotationDays => "rotation-days",
            Self::AuditDays => "audit-days",
            Self::PayloadDays => "payload-days",
            Self::AuditMaxMib => "audit-max-mib",
            Self::ReserveMib => "reserve-mib",
            Self::PayloadKeyFile => "payload-key-file",
            Self::WebhookUrl => "webhook-url",
            Self::WebhookSecretFile => "webhook-secret-file",
            Self::GatewayUrl => "gateway-url",
            Self::OtlpEndpoint => "otlp-endpoint",
            Self::OtlpHeadersFile => "otlp-headers-file",
            Self::OtlpCaFile => "otlp-ca-file",
            Self::TlsCertificate => "tls-certificate",
            Self::TlsKey => "tls-key",
            Self::Log => "log",
        }
    }

    /// The name of the environment variable.
    pub(crate) fn variable(self) -> String {
        format!("OMF_{}", self.name().to_ascii_uppercase())
    }

    /// The type of a value.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Listen
            | Self::KeyPrefix
            | Self::WebhookUrl
            | Self::OtlpEndpoint
            | Self::GatewayUrl
            | Self::Log => Kind::Text,
            Self::DataDir
            | Self::AdminTokenFile
            | Self::PayloadKeyFile
            | Self::WebhookSecretFile
            | Self::OtlpHeadersFile
            | Self::OtlpCaFile
            | Self::TlsCertificate
            | Self::TlsKey => Kind::Path,
            Self::GatewayLease
            | Self::RotationDays
            | Self::AuditDays
            | Self::PayloadDays
            | Self::AuditMaxMib
            | Self::ReserveMib => Kind::Number,
        }
    }

    /// The default value, unparsed.
    pub(crate) fn default_value(self) -> Option<&'static str> {
        match self {
            Self::Listen => Some("127.0.0.1:8080"),
            Self::DataDir => Some("omniflow-data"),
            Self::KeyPrefix => Some("omf"),
            Self::GatewayLease => Some("60"),
            Self::RotationDays | Self::AuditDays => Some("90"),
            Self::PayloadDays => Some("7"),
            Self::AuditMaxMib => Some("0"),
            Self::ReserveMib => Some("256"),
            Self::Log => Some("info"),
            Self::AdminTokenFile
            | Self::PayloadKeyFile
            | Self::WebhookUrl
            | Self::WebhookSecretFile
            | Self::GatewayUrl
            | Self::OtlpEndpoint
            | Self::OtlpHeadersFile
            | Self::OtlpCaFile
            | Self::TlsCertificate
            | Self::TlsKey => None,
        }
    }

    /// The default as text.
    pub(crate) fn default_text(self) -> &'static str {
        match self {
            Self::AdminTokenFile => "<data_dir>/admin-token",
            Self::PayloadKeyFile => "<data_dir>/payload-key",
            _ => self.default_value().unwrap_or("none"),
        }
    }

    /// The placeholder of the value in help texts.
    pub(crate) fn value_name(self) -> &'static str {
        match self {
            Self::Listen => "ADDRESS:PORT",
            Self::DataDir => "DIR",
            Self::AdminTokenFile
            | Self::PayloadKeyFile
            | Self::WebhookSecretFile
            | Self::OtlpHeadersFile
            | Self::OtlpCaFile
            | Self::TlsCertificate
            | Self::TlsKey => "FILE",
            Self::WebhookUrl | Self::OtlpEndpoint | Self::GatewayUrl => "URL",
            Self::KeyPrefix => "PREFIX",
            Self::GatewayLease => "SECONDS",
            Self::RotationDays | Self::AuditDays | Self::PayloadDays => "DAYS",
            Self::AuditMaxMib | Self::ReserveMib => "MIB",
            Self::Log => "LEVELS",
        }
    }

    /// The description of the setting.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Listen => "Address and port to listen on; port 0 for any free port",
            Self::DataDir => "Database directory; created if missing, readable only by its owner",
            Self::AdminTokenFile => "File to write the owner's token to on first start",
            Self::KeyPrefix => "Prefix of all keys; read only on first start",
            Self::GatewayLease => {
                "Seconds for which a gateway counts as live after its last request, 1 to 86400"
            }
            Self::RotationDays => {
                "Age in days at which a key's newest secret is due for rotation, up to 36500; 0 to disable"
            }
            Self::AuditDays => "Retention of audit records in days, 1 to 3650",
            Self::PayloadDays => "Retention of payloads in days, 1 to audit_days",
            Self::AuditMaxMib => {
                "Maximum size of the audit log in MiB; above it, the oldest content of the kind that most exceeds its share is purged; 0 for no limit"
            }
            Self::ReserveMib => {
                "Free space in MiB to reserve for key changes on the volume of data_dir; with less, audit records are rejected"
            }
            Self::PayloadKeyFile => {
                "File with the keys that encrypt payloads; created if missing, not part of backups"
            }
            Self::WebhookUrl => {
                "URL to send new anomalies to, such as https://host/path; http:// only for local receivers"
            }
            Self::WebhookSecretFile => {
                "File with the secret that signs webhooks: whsec_ and 24 to 64 bytes in Base64"
            }
            Self::GatewayUrl => {
                "URL at which clients reach the gateways, such as https://api.example.com; the console shows it in example calls"
            }
            Self::OtlpEndpoint => {
                "URL to export audit records to as OpenTelemetry logs, such as https://host/v1/logs; http:// only for local receivers"
            }
            Self::OtlpHeadersFile => {
                "File with additional headers for OTLP requests, such as a credential; one NAME: VALUE per line"
            }
            Self::OtlpCaFile => {
                "File with the CA certificates (PEM) to trust for the OTLP receiver, instead of the public CAs"
            }
            Self::TlsCertificate => {
                "Certificate chain (PEM), server certificate first; if set with tls_key, only TLS connections are accepted"
            }
            Self::TlsKey => "Private key of the certificate (PEM)",
            Self::Log => {
                "Log levels for standard error, separated by commas: off, error, warn, info, debug or trace, or MODULE=LEVEL for one module"
            }
        }
    }

    /// An example value, as written in a file.
    pub(crate) fn example(self) -> &'static str {
        match self {
            Self::Listen => "\"0.0.0.0:8080\"",
            Self::DataDir => "\"/var/lib/omniflow\"",
            Self::AdminTokenFile => "\"/run/omniflow/admin-token\"",
            Self::KeyPrefix => "\"omf\"",
            Self::GatewayLease => "60",
            Self::RotationDays | Self::AuditDays => "90",
            Self::PayloadDays => "7",
            Self::AuditMaxMib => "10240",
            Self::ReserveMib => "256",
            Self::PayloadKeyFile => "\"/run/omniflow/payload-key\"",
            Self::WebhookUrl => "\"https://example.com/omniflow\"",
            Self::WebhookSecretFile => "\"/etc/omniflow/webhook-secret\"",
            Self::GatewayUrl => "\"https://api.example.com\"",
            Self::OtlpEndpoint => "\"https://collector.internal:4318/v1/logs\"",
            Self::OtlpHeadersFile => "\"/etc/omniflow/otlp-headers\"",
            Self::OtlpCaFile => "\"/etc/omniflow/collector-ca.crt\"",
            Self::TlsCertificate => "\"/etc/omniflow/tls.crt\"",
            Self::TlsKey => "\"/etc/omniflow/tls.key\"",
            Self::Log => "\"info\"",
        }
    }
}

#[cfg(test)]
mod tests {
    use omniflow_golden::{markdown, reference};

    use super::*;

    #[test]
    fn reference_lists_every_setting() {
        let code = |text: &str| format!("`{text}`");
        let rows = Setting::ALL.map(|setting| {
            let default = match setting.default_text() {
                "none" => "none".to_owned(),
                text => code(text),
            };
            vec![
                code(setting.name()),
                code(&format!("--{} <{}>", setting.flag(), setting.value_name())),
                code(&setting.variable()),
                default,
                markdown::text(setting.meaning()),
            ]
        });
        let table = markdown::table(&["setting", "flag", "variable", "default", "meaning"], &rows);
        reference::check("server-settings.md", &[("settings".to_owned(), table)]);
    }

    #[test]
    fn example_in_the_reference_has_known_settings() {
        let example: toml::Table = reference::example("server-settings.md", "toml").parse().unwrap();
        assert!(example.len() > 3);
        for name in example.keys() {
            assert!(Setting::ALL.iter().any(|setting| setting.name() == name), "{name}");
        }
    }
}
