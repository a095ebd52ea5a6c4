//! The resolved settings of `omf serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use omniflow_console::state::EffectiveSetting;
use omniflow_domain::clock::{Clock, Entropy};
use omniflow_net::tls::TlsFiles;
use omniflow_outbound::otlp::OtlpSettings;
use omniflow_outbound::webhook::WebhookSettings;
use omniflow_policy::key::KeyPrefix;
use omniflow_service::log_space::LogLimits;

/// The settings of a server.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Address and port to listen on; port 0 for any free port.
    pub listen: SocketAddr,
    /// Directory of the databases.
    pub data_dir: PathBuf,
    /// File to which the first start writes the owner's token; `None` for `admin-token` in the data directory.
    pub admin_token_file: Option<PathBuf>,
    /// Prefix of all keys. Only the first start reads it.
    pub key_prefix: KeyPrefix,
    /// How long a gateway counts as live after its last request.
    pub gateway_lease: Duration,
    /// Age at which the newest version of a key is due for rotation; `None` for never.
    pub rotation_after: Option<Duration>,
    /// Retention of audit records.
    pub audit_retention: Duration,
    /// Retention of the arguments of calls.
    pub payload_retention: Duration,
    /// Maximum size of the request log, and free space to keep on its volume.
    pub log_limits: LogLimits,
    /// File with the keys that encrypt call arguments; `None` for `payload-key` in the data directory.
    pub payload_key_file: Option<PathBuf>,
    /// The webhook for anomalies; `None` if not configured.
    pub webhook: Option<WebhookSettings>,
    /// URL of the gateways for clients; `None` if not configured.
    pub gateway_url: Option<String>,
    /// All settings and their sources as text, for the console.
    pub effective: Vec<EffectiveSetting>,
    /// The OTLP receiver of the audit log; `None` if not configured.
    pub otlp: Option<OtlpSettings>,
    /// Certificate and key; `None` for plain HTTP.
    pub tls: Option<TlsFiles>,
    /// The wall clock.
    pub clock: Clock,
    /// Random bytes.
    pub entropy: Entropy,
}

// === impl ServerSettings ===

impl ServerSettings {
    /// The defaults, with this data directory and a free port of the loopback interface.
    pub fn in_folder(folder: &std::path::Path, clock: Clock) -> Self {
        Self {
            listen: ([127, 0, 0, 1], 0).into(),
            data_dir: folder.to_owned(),
            admin_token_file: None,
            key_prefix: KeyPrefix::default(),
            gateway_lease: Duration::from_secs(60),
            rotation_after: Some(Duration::from_secs(90 * 86_400)),
            audit_retention: Duration::from_secs(90 * 86_400),
            payload_retention: Duration::from_secs(7 * 86_400),
            log_limits: LogLimits { max_bytes: None, reserve_bytes: 0 },
            payload_key_file: None,
            webhook: None,
            gateway_url: None,
            effective: Vec::new(),
            otlp: None,
            tls: None,
            clock,
            entropy: Entropy::system(),
        }
    }
}
