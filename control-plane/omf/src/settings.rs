//! What a server is given: the resolved settings of `omf serve`.

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
    /// Where it listens; port 0 for any that is free.
    pub listen: SocketAddr,
    /// Where its databases lie.
    pub data_dir: PathBuf,
    /// Where the first start writes the owner's token; `admin-token` in the data directory if not stated.
    pub admin_token_file: Option<PathBuf>,
    /// What keys begin with. Only the first start reads it.
    pub key_prefix: KeyPrefix,
    /// How long a silent gateway still counts as live.
    pub gateway_lease: Duration,
    /// How long after it was made a key's newest version should be replaced; `None` for never.
    pub rotation_after: Option<Duration>,
    /// For how long audit records are kept.
    pub audit_retention: Duration,
    /// For how long the arguments of calls are kept.
    pub payload_retention: Duration,
    /// How large the request log may become, and what stays free on its volume.
    pub log_limits: LogLimits,
    /// Where the keys lie that seal the arguments; `payload-key` in the data directory if not stated.
    pub payload_key_file: Option<PathBuf>,
    /// Who gets anomalies; `None` for nobody.
    pub webhook: Option<WebhookSettings>,
    /// Where clients reach the gateways; `None` if nobody has said.
    pub gateway_url: Option<String>,
    /// All settings as an operator gave them, for people to read.
    pub effective: Vec<EffectiveSetting>,
    /// Who gets the audit log; `None` for nobody.
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
