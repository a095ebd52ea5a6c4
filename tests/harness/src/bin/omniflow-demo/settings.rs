//! Settings from the environment, and a check that the ports are free.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use omniflow_harness::ports;

/// A port and the variable that sets it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PortSetting {
    variable: &'static str,
    purpose: &'static str,
    pub(crate) number: u16,
}

/// All settings.
#[derive(Debug)]
pub(crate) struct Settings {
    /// State and logs.
    pub(crate) folder: PathBuf,
    /// Envoy's worker threads.
    pub(crate) workers: u32,
    pub(crate) control_plane: PortSetting,
    pub(crate) envoy: PortSetting,
    pub(crate) envoy_admin: PortSetting,
    pub(crate) live: PortSetting,
    pub(crate) test: PortSetting,
}

impl Settings {
    /// Reads the environment; the default folder is in `root`.
    pub(crate) fn from_env(root: &Path) -> Result<Self> {
        let folder = std::env::var_os("OMF_RUN_DIR").filter(|value| !value.is_empty());
        let settings = Self {
            folder: std::path::absolute(folder.map_or_else(|| root.join(".run"), PathBuf::from))?,
            workers: number("OMF_WORKERS", 2)?,
            control_plane: port("OMF_PORT", "the control plane", 8080)?,
            envoy: port("OMF_ENVOY_PORT", "Envoy", 10_000)?,
            envoy_admin: port("OMF_ENVOY_ADMIN_PORT", "Envoy's admin interface", 9901)?,
            live: port("OMF_UPSTREAM_LIVE_PORT", "the live upstream", 10_001)?,
            test: port("OMF_UPSTREAM_TEST_PORT", "the test upstream", 10_002)?,
        };
        settings.check_ports()?;
        Ok(settings)
    }

    /// All problems at once, so that a single attempt shows them all.
    fn check_ports(&self) -> Result<()> {
        let wanted = [self.control_plane, self.envoy, self.envoy_admin, self.live, self.test];
        let mut problems = Vec::new();
        for (index, port) in wanted.iter().enumerate() {
            if let Some(twin) = wanted.iter().take(index).find(|other| other.number == port.number) {
                problems.push(format!("{} and {} are both {}", twin.variable, port.variable, port.number));
            } else if !ports::is_free(port.number) {
                problems.push(busy(*port));
            }
        }
        if !problems.is_empty() {
            bail!("{}", problems.join("\n"));
        }
        Ok(())
    }
}

fn busy(port: PortSetting) -> String {
    let PortSetting { variable, purpose, number } = port;
    let owner = ports::owner(number).map(|owner| format!(" by {owner}")).unwrap_or_default();
    format!(
        "port {number}, meant for {purpose}, is in use{owner}; stop that, or choose another: {variable}=PORT"
    )
}

fn port(variable: &'static str, purpose: &'static str, default: u16) -> Result<PortSetting> {
    let number = number(variable, default)?;
    if number == 0 {
        bail!("{variable} must be a port from 1 to 65535");
    }
    Ok(PortSetting { variable, purpose, number })
}

fn number<T>(variable: &str, default: T) -> Result<T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    match std::env::var(variable) {
        Ok(text) if !text.is_empty() => {
            text.parse().with_context(|| format!("{variable}={text} is not a number that fits"))
        }
        _ => Ok(default),
    }
}
