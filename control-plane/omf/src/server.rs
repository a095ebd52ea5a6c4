//! The lifecycle of the server: start, serve, stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum_server::Handle as ServerHandle;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use crate::composition::ControlPlane;
use crate::error::ServerError;
use crate::jobs::Supervisor;
use crate::process;
use crate::settings::ServerSettings;
use crate::starting::StartingRouter;
use omniflow_net::connection_table::ConnectionTable;
use omniflow_net::connections;
use omniflow_net::tls::{self, Renewal};
use omniflow_service::publisher::BuildError;

/// How long open requests may take to end after the process is asked to stop.
const GRACE: Duration = Duration::from_secs(10);
/// How long connections may take to close after that time.
const CUT: Duration = Duration::from_secs(1);

/// A server that accepts connections.
pub struct Server {
    address: SocketAddr,
    app: Arc<ControlPlane>,
    connections: ServerHandle<SocketAddr>,
    serving: JoinHandle<io::Result<()>>,
    building: JoinHandle<Result<(), BuildError>>,
    jobs: Supervisor,
    renewing: JoinHandle<()>,
}

// === impl Server ===

impl Server {
    /// Opens the port and the data directory. Requests are accepted as soon as the port is open, and the response is 503
    /// until the databases are open and migrated and the image of all keys is built.
    pub async fn start(settings: ServerSettings) -> Result<Self, ServerError> {
        // From here on, SIGHUP does not end the process.
        let hangup = signal(SignalKind::hangup()).map_err(ServerError::Signal)?;
        let renewal =
            settings.tls.clone().map(|files| Renewal::start(files, settings.clock.clone())).transpose()?;
        let listen_error = |source| ServerError::Listen { address: settings.listen, source };
        let listener = connections::listen(settings.listen).map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let (connections, front) = (ServerHandle::new(), StartingRouter::default());
        let connection_table = Arc::new(ConnectionTable::new(connections::most_connections()));
        let tls = renewal.as_ref().map(Renewal::served);
        let serving = connections::serve(
            listener,
            front.router(),
            tls,
            Arc::clone(&connection_table),
            connections.clone(),
        );
        let expiry = renewal.as_ref().map(Renewal::expiry).unwrap_or_default();
        let opened = ControlPlane::open_with(&settings, connection_table, expiry).await;
        let app = Arc::new(opened.inspect_err(|_| connections.shutdown())?);
        front.set(app.router());
        let building = spawn_blocking({
            let (app, handle) = (Arc::clone(&app), Handle::current());
            move || {
                let built = handle.block_on(app.publisher.build_image());
                // Rows and grown vectors take more than half the size of the image.
                process::release_free_memory();
                built
            }
        });
        let jobs = Supervisor::start(&app);
        let renewing = match renewal {
            Some(renewal) => tokio::spawn(renewal.run(hangup)),
            None => tokio::spawn(tls::without_certificate(hangup)),
        };
        Ok(Self { address, app, connections, serving, building, jobs, renewing })
    }

    /// The address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` completes or the server fails. Then waits for open requests and closes the databases.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), ServerError> {
        let Self { app, connections, mut serving, mut building, jobs, renewing, .. } = self;
        let (mut built, mut served) = (false, false);
        tokio::pin!(stop);
        let outcome = loop {
            tokio::select! {
                result = &mut building, if !built => {
                    // This is set in every case, because a task that has ended must not be awaited again.
                    built = true;
                    match result.map_err(ServerError::from) {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => break Err(error.into()),
                        Err(error) => break Err(error),
                    }
                }
                result = &mut serving => {
                    served = true;
                    break result.map_err(ServerError::from).and_then(|result| Ok(result?));
                }
                () = &mut stop => break Ok(()),
            }
        };
        app.notifications.stopping.send_replace(true);
        renewing.abort();
        connections.graceful_shutdown(None);
        if !served && timeout(GRACE, &mut serving).await.is_err() {
            tracing::warn!("open requests did not finish in time");
            connections.shutdown();
            let _ = timeout(CUT, &mut serving).await;
        }
        // The build uses the data directory, which must be free for another process when this returns.
        if !built && timeout(GRACE, &mut building).await.is_err() {
            tracing::warn!("building the image did not finish in time");
        }
        jobs.stop().await;
        app.store.close().await;
        tracing::info!("stopped");
        outcome
    }
}

#[cfg(test)]
mod tests;
