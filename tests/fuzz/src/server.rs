//! One control plane for the whole run of a target, in an in-memory directory if available.

use std::path::Path;
use std::sync::OnceLock;

use axum::body::Body;
use axum::http::{Method, Request, Uri, header};
use omniflow_test_server::TestServer;
use tokio::runtime::{Builder, Runtime};

/// A control server with a few keys.
pub struct Server {
    runtime: Runtime,
    server: TestServer,
    /// The token of a gateway.
    gateway: String,
}

/// The token that a call sends.
#[derive(Clone, Copy, Debug)]
pub enum Principal {
    /// The owner's.
    Owner,
    /// A gateway's.
    Gateway,
}

/// The control plane. Its directory is removed only if the process ends by itself, so it is below the system's
/// directory for temporary files.
pub fn server() -> &'static Server {
    static PLANE: OnceLock<Server> = OnceLock::new();
    PLANE.get_or_init(Server::start)
}

impl Server {
    fn start() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.expect("a temporary directory");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (server, gateway) = runtime.block_on(async {
            let server = TestServer::open(folder).await;
            for name in ["one", "two", "three"] {
                server.key(name).await;
            }
            let gateway = server.token("gateway").await;
            (server, gateway)
        });
        Self { runtime, server, gateway }
    }

    /// Makes a call; returns status and body.
    pub fn call(
        &self,
        principal: Principal,
        method: &str,
        path: &str,
        media_type: &str,
        body: Vec<u8>,
    ) -> (u16, Vec<u8>) {
        self.try_call(principal, method, path, media_type, body).expect("a path that can be sent")
    }

    /// Makes a call, or returns `None` if no client could send this path.
    pub fn try_call(
        &self,
        principal: Principal,
        method: &str,
        path: &str,
        media_type: &str,
        body: Vec<u8>,
    ) -> Option<(u16, Vec<u8>)> {
        let token = match principal {
            Principal::Owner => &self.server.owner,
            Principal::Gateway => &self.gateway,
        };
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).ok()?)
            .uri(path.parse::<Uri>().ok()?)
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        if !media_type.is_empty() {
            request = request.header(header::CONTENT_TYPE, media_type);
        }
        let request = request.body(Body::from(body)).ok()?;
        let answer = self.runtime.block_on(self.server.call(request));
        Some((answer.status.as_u16(), answer.body.to_vec()))
    }
}
