//! A real gateway with many keys: Envoy with the complete product.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use omniflow_harness::ports::Port;
use omniflow_harness::{ControlPlane, Envoy, EnvoyOptions, paths};
use omniflow_tests::seed;

use super::seeded;
use crate::load::Request;
use crate::subjects::{PATH, answer_directly, options, reserve, without_log_state};

/// The number of keys in use, for requests of many keys.
const CLIENTS: u32 = 4_000;
const IN_STEP: Duration = Duration::from_secs(60);

/// Envoy and its control plane.
pub(super) struct Installation {
    pub(super) envoy: Envoy,
    pub(super) control_plane: ControlPlane,
    pub(super) keys: u32,
    workers: u32,
    _ports: Vec<Port>,
}

impl Installation {
    /// Starts both, and waits until all VMs enforce the image.
    pub(super) async fn start(folder: &Path, keys: u32, workers: u32) -> Result<Self> {
        let ports = reserve(3)?;
        let port = ports.get(2).context("no port")?;
        std::fs::create_dir_all(folder)?;
        let control_plane = seeded(&folder.join("state"), port, keys).await?;
        let token = control_plane.create_token("gateway", "gateway").await?;
        let options = EnvoyOptions {
            gateway_token: Some(token),
            control_plane_port: port.number(),
            template: paths::configuration("demo.yaml"),
            plugin: without_log_state(),
            with_filter: true,
            workers,
            ..options(folder, &ports)?
        };
        let envoy = Envoy::start(options.edit(answer_directly)).await?;
        let installation = Self { envoy, control_plane, keys, workers, _ports: ports };
        installation.in_step().await?;
        Ok(installation)
    }

    /// Waits until all VMs enforce the newest version.
    pub(super) async fn in_step(&self) -> Result<()> {
        self.control_plane.wait_in_step("bench", self.vms(), IN_STEP).await
    }

    /// The number of VMs: of its workers and its main thread.
    pub(super) fn vms(&self) -> usize {
        self.workers as usize + 1
    }

    /// A request of one key.
    pub(super) fn one(&self) -> Arc<[Request]> {
        [request(self.keys / 2)].into()
    }

    /// Requests of [`CLIENTS`] keys from all parts of the image, or of all keys if there are fewer.
    pub(super) fn spread(&self) -> Arc<[Request]> {
        self.some(CLIENTS)
    }

    /// Requests of this many keys from all parts of the image.
    pub(super) fn some(&self, clients: u32) -> Arc<[Request]> {
        let clients = clients.min(self.keys);
        (0..clients).map(|number| request(number * (self.keys / clients))).collect()
    }
}

fn request(number: u32) -> Request {
    Request::with_key(PATH, seed::secret(number).expose())
}
