//! The control plane as fuzz targets call it: the real router over real databases, without a network.
//!
//! Only there with `--cfg fuzzing`, which `cargo fuzz` sets for all crates and nobody else does. A feature could be
//! switched on by any crate that depends on this one; a parser made public for this alone would be a promise.
#![allow(clippy::expect_used)]

use std::path::Path;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, Uri, header};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

use crate::composition::ControlPlane;
use crate::router;
use crate::settings::ServerSettings;
use omniflow_domain::clock::Clock;

/// A control plane with a few keys.
pub struct TestServer {
    runtime: Runtime,
    router: Router,
    owner: String,
    gateway: String,
}

/// Whose token a call shows.
#[derive(Clone, Copy, Debug)]
pub enum Principal {
    /// The owner's.
    Owner,
    /// A gateway's.
    Gateway,
}

// === impl TestServer ===

impl TestServer {
    /// Opens one in an empty folder.
    pub fn open(folder: &Path) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let router = runtime.block_on(async {
            let app = std::sync::Arc::new(
                ControlPlane::open(&ServerSettings::in_folder(folder, Clock::system()))
                    .await
                    .expect("an empty folder opens"),
            );
            app.publisher.build_image().await.expect("an empty image");
            router::router(&app)
        });
        let owner = std::fs::read_to_string(folder.join("admin-token")).expect("the owner's token");
        let mut plane = Self { runtime, router, owner: owner.trim().to_owned(), gateway: String::new() };
        let token = plane.create("/v1/tokens", json!({"name": "edge", "role": "gateway"}));
        plane.gateway = token["secret"].as_str().expect("a secret").to_owned();
        for name in ["one", "two", "three"] {
            let fields = json!({"name": name, "environment": "live", "scopes": ["contacts:read"]});
            plane.create("/v1/keys", fields);
        }
        plane
    }

    /// Makes a call; gives status and body.
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

    /// The same, or `None` where no principal could send this path.
    pub fn try_call(
        &self,
        principal: Principal,
        method: &str,
        path: &str,
        media_type: &str,
        body: Vec<u8>,
    ) -> Option<(u16, Vec<u8>)> {
        let token = match principal {
            Principal::Owner => &self.owner,
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
        Some(self.runtime.block_on(async {
            let Ok(response) = self.router.clone().oneshot(request).await;
            let status = response.status().as_u16();
            let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body in memory");
            (status, body.to_vec())
        }))
    }

    fn create(&self, path: &str, fields: serde_json::Value) -> serde_json::Value {
        let (status, body) =
            self.call(Principal::Owner, "POST", path, "application/json", fields.to_string().into_bytes());
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).expect("JSON")
    }
}
