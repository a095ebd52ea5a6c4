//! The settings of `omf serve`: what each is called everywhere, and what it is for.

/// A setting. The order is the one of the help text and of what `omf config check` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Setting {
    /// Address and port.
    Listen,
    /// Folder of the databases.
    DataDir,
    /// Where the first start writes the owner's token.
    AdminTokenFile,
    /// What all keys begin with.
    KeyPrefix,
    /// For how long a silent gateway counts as live, in seconds.
    GatewayLease,
    /// When a key is due for rotation, in days.
    RotationDays,
    /// For how long audit records are kept, in days.
    AuditDays,
    /// For how long the arguments of calls are kept, in days.
    PayloadDays,
    /// How large the audit log may become, in MiB.
    AuditMaxMib,
    /// What stays free for changes of keys, in MiB.
    ReserveMib,
    /// Where the keys lie that seal the arguments.
    PayloadKeyFile,
    /// Where anomalies are sent.
    WebhookUrl,
    /// The secret by which they are signed.
    WebhookSecretFile,
    /// Where clients reach the gateways.
    GatewayUrl,
    /// Where the audit log is exported to.
    OtlpEndpoint,
    /// Headers for it.
    OtlpHeadersFile,
    /// The CA certificates by which it is known.
    OtlpCaFile,
    /// The certificate chain for TLS.
    TlsCertificate,
    /// The certificate's key.
    TlsKey,
    /// What is logged.
    Log,
}

/// What a value looks like in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A string.
    Text,
    /// A string; a relative one starts from where it was written.
    Path,
    /// A whole number.
    Number,
}

// === impl Setting ===

impl Setting {
    /// All of them.
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

    /// The name on the command line, without its dashes in front.
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

    /// The name in the environment.
    pub(crate) fn variable(self) -> String {
        format!("OMF_{}", self.name().to_ascii_uppercase())
    }

    /// What a value looks like in a file.
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

    /// The default value, as it would be written.
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

    /// The default in words.
    pub(crate) fn default_text(self) -> &'static str {
        match self {
            Self::AdminTokenFile => "<data_dir>/admin-token",
            Self::PayloadKeyFile => "<data_dir>/payload-key",
            _ => self.default_value().unwrap_or("none"),
        }
    }

    /// What stands for the value in a help text.
    pub(crate) fn value_name(self) -> &'static str {
        match self {
            Self::Listen => "ADDRESS:PORT",
            Self::DataDir => "FOLDER",
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

    /// What it is for.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Listen => "Address and port to listen on; port 0 for any that is free",
            Self::DataDir => {
                "Folder of the databases; it is made if it is missing, and readable for its owner only"
            }
            Self::AdminTokenFile => "Where the first start writes the owner's token",
            Self::KeyPrefix => "What all keys begin with; only the first start reads it",
            Self::GatewayLease => "Seconds for which a silent gateway still counts as live, 1 to 86400",
            Self::RotationDays => {
                "Days after which the newest secret of a key is due for rotation, up to 36500; 0 for never"
            }
            Self::AuditDays => "Days for which audit records are kept, 1 to 3650",
            Self::PayloadDays => "Days for which the arguments of calls are kept, 1 to audit_days",
            Self::AuditMaxMib => {
                "Size in MiB above which the oldest audit records are purged before audit_days; 0 for no limit"
            }
            Self::ReserveMib => {
                "Free space in MiB on the volume of data_dir below which audit records are refused, so that changes of keys find space"
            }
            Self::PayloadKeyFile => {
                "File of the keys that seal the arguments of calls; it is made if it is missing, and is in no backup"
            }
            Self::WebhookUrl => "Where new anomalies are sent: https://host/path, or http:// for one nearby",
            Self::WebhookSecretFile => {
                "File with the secret that signs them: whsec_ and 24 to 64 bytes in Base64"
            }
            Self::GatewayUrl => {
                "URL at which clients reach the gateways, such as https://api.example.com; the console shows it in example calls"
            }
            Self::OtlpEndpoint => {
                "Where audit records are exported as OpenTelemetry logs: https://host/v1/logs, or http:// for one nearby"
            }
            Self::OtlpHeadersFile => "File with headers for it, one NAME: VALUE a line, such as a credential",
            Self::OtlpCaFile => {
                "CA certificates in PEM form by which it is known, in place of the public ones"
            }
            Self::TlsCertificate => {
                "Certificate chain in PEM form, the server's own first; with it and its key, TLS is spoken and nothing else"
            }
            Self::TlsKey => "The certificate's private key in PEM form",
            Self::Log => {
                "What is logged to standard error: off, error, warn, info, debug or trace, also for single modules (MODULE=LEVEL), with commas between"
            }
        }
    }

    /// A value as it would be written in a file.
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
    use super::*;

    #[test]
    fn the_readme_lists_every_setting() {
        let readme = include_str!("../../../../README.md");
        for setting in Setting::ALL {
            let default = match setting.default_text() {
                "none" => "none".to_owned(),
                text => format!("`{text}`"),
            };
            let row = format!(
                "| `{}` | `--{}` | `{}` | {default} | {} |",
                setting.name(),
                setting.flag(),
                setting.variable(),
                setting.meaning()
            );
            assert!(readme.contains(&row), "README.md lacks or tells otherwise:\n{row}");
        }
    }
}
