//! `omf serve`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{IsTerminal, stderr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::builder::ValueParser;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::configuration::{Configuration, FILE_FLAG, FILE_VARIABLE, Flags, Resolution, Setting};
use crate::process;
use crate::server::Server;
use crate::settings::ServerSettings;
use omniflow_console::state::EffectiveSetting;
use omniflow_domain::clock::{Clock, Entropy};
use omniflow_net::connections;
use omniflow_service::log_space::LogLimits;

#[derive(Debug, Args)]
#[command(
    after_help = "Order of precedence: flag, environment variable, configuration file, default. An empty variable counts \
    as not set. `omf config check` prints each effective value and its source.\n\n\
    The configuration file is TOML. Its settings are the flags in snake_case; relative paths are relative to the \
    directory of the file:\n  \
    listen = \"0.0.0.0:8443\"\n  \
    data_dir = \"/var/lib/omniflow\"\n  \
    tls_certificate = \"tls.crt\"\n  \
    tls_key = \"tls.key\"\n\n\
    Renewed certificates are reloaded within a minute, or immediately on SIGHUP.\n\n\
    Examples:\n  \
    omf serve\n  \
    omf serve --listen 0.0.0.0:8080 --data-dir /var/lib/omniflow\n  \
    omf serve --config /etc/omniflow/omf.toml\n\n\
    The first start writes the owner's token to <data-dir>/admin-token. It is stored nowhere else.\n\n\
    Secret files are rejected if other users have any access to them or if their group can write them. Core\n\
    dumps and debuggers are disabled unless OMF_ALLOW_CORE_DUMPS=1 is set."
)]
pub(super) struct Serve {
    #[command(flatten)]
    flags: Flags,
}

pub(super) fn run(args: &Serve) -> anyhow::Result<()> {
    let resolution = read(&args.flags);
    let effective = resolution.effective();
    let configuration = resolution.configuration()?;
    tracing_subscriber::registry()
        .with(configuration.log.clone())
        .with(
            tracing_subscriber::fmt::layer()
                .with_writer(stderr)
                .with_ansi(stderr().is_terminal())
                // An error in writing to standard error would be written to standard error, and panic, for example on a full disk.
                .log_internal_errors(false),
        )
        .init();
    if let Err(error) = process::harden(std::env::var_os(process::DEBUG_VARIABLE).as_deref()) {
        tracing::warn!(%error, "core dumps cannot be disabled; they would contain secrets");
    }
    if let Some(warning) = configuration.warning() {
        tracing::warn!("{warning}");
    }
    let settings = settings(configuration, effective);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let stop = async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        connections::raise_file_limit();
        let served = async {
            let server = Server::start(settings).await?;
            tracing::info!(address = %server.address(), "listening");
            server.run_until(stop).await
        };
        // The message already includes its cause.
        served.await.map_err(|error| anyhow!("{error}"))
    })
}

/// The configuration of this process.
pub(super) fn read(flags: &Flags) -> Resolution {
    Resolution::new(flags, |name| std::env::var_os(name))
}

fn settings(configuration: Configuration, effective: Vec<EffectiveSetting>) -> ServerSettings {
    let days = configuration.rotation_days;
    ServerSettings {
        listen: configuration.listen,
        data_dir: configuration.data_dir,
        admin_token_file: configuration.admin_token_file,
        key_prefix: configuration.key_prefix,
        gateway_lease: Duration::from_secs(configuration.gateway_lease),
        rotation_after: (days > 0).then(|| Duration::from_secs(days * 86_400)),
        audit_retention: Duration::from_secs(configuration.audit_days * 86_400),
        payload_retention: Duration::from_secs(configuration.payload_days * 86_400),
        log_limits: LogLimits {
            max_bytes: (configuration.audit_max_mib > 0).then_some(configuration.audit_max_mib << 20),
            reserve_bytes: configuration.reserve_mib << 20,
        },
        payload_key_file: configuration.payload_key_file,
        webhook: configuration.webhook,
        gateway_url: configuration.gateway_url,
        effective,
        otlp: configuration.otlp,
        tls: configuration.tls,
        clock: Clock::system(),
        entropy: Entropy::system(),
    }
}

// === impl Flags ===

/// The flags are those of the settings. They are not validated here: values from all sources are checked in one place.
impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(FILE_FLAG)
            .long(FILE_FLAG)
            .value_name("FILE")
            .value_parser(ValueParser::path_buf())
            .help(format!("Configuration file in TOML [env: {FILE_VARIABLE}]"));
        Setting::ALL.into_iter().fold(command.arg(file), |command, setting| {
            let default = match setting.default_text() {
                "none" => String::new(),
                text => format!(" [default: {text}]"),
            };
            command.arg(
                Arg::new(setting.name())
                    .long(setting.flag())
                    .value_name(setting.value_name())
                    .value_parser(ValueParser::os_string())
                    .allow_negative_numbers(true)
                    .help(format!("{} [env: {}]{default}", setting.meaning(), setting.variable())),
            )
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |setting: Setting| matches.get_one::<OsString>(setting.name()).cloned();
        let values: BTreeMap<_, _> =
            Setting::ALL.into_iter().filter_map(|setting| Some((setting, value(setting)?))).collect();
        Ok(Self { file: matches.get_one::<PathBuf>(FILE_FLAG).cloned(), values })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let Self { file, values } = Self::from_arg_matches(matches)?;
        self.file = file.or(self.file.take());
        self.values.extend(values);
        Ok(())
    }
}
