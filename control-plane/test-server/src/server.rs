//! The control plane under test.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use omf::composition::ControlPlane;
use omf::settings::ServerSettings;
use omniflow_domain::clock::Clock;
use omniflow_policy::audit::{AuditBatch, AuditItem, AuditRecord, AuditSource};
use omniflow_policy::gateway::{AUDIT_MEDIA_TYPE, Incarnation};
use omniflow_policy::time::UnixMillis;
use omniflow_service::jobs::detection::detect;
use omniflow_service::jobs::gateway_loss::record_lost_gateways;
use omniflow_service::jobs::retention::purge;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::START;
use crate::http::{Answer, request, send};

/// A control plane on a temporary data directory, with its router and the owner's token.
pub struct TestServer {
    /// The composed control plane.
    pub app: Arc<ControlPlane>,
    /// The router of the API and the console.
    pub router: Router,
    /// The owner's token.
    pub owner: String,
    time: Arc<AtomicU64>,
    folder: TempDir,
}

impl TestServer {
    /// Starts on an empty data directory at [`START`], with the first snapshot image built.
    pub async fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap()).await
    }

    /// Starts in this directory, which is removed with the server.
    pub async fn open(folder: TempDir) -> Self {
        Self::in_folder(folder, START, |_| {}).await
    }

    async fn in_folder(folder: TempDir, now: u64, change: impl FnOnce(&mut ServerSettings)) -> Self {
        let time = Arc::new(AtomicU64::new(now));
        let mut settings = settings(folder.path(), &time);
        change(&mut settings);
        let app = Arc::new(ControlPlane::open(&settings).await.unwrap());
        let owner = std::fs::read_to_string(folder.path().join("admin-token")).unwrap().trim().to_owned();
        app.publisher.build_image().await.unwrap();
        Self { router: app.router(), app, owner, time, folder }
    }

    /// Starts a control plane that has not built its image yet.
    pub async fn starting() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let time = Arc::new(AtomicU64::new(START));
        let app = Arc::new(ControlPlane::open(&settings(folder.path(), &time)).await.unwrap());
        let owner = std::fs::read_to_string(folder.path().join("admin-token")).unwrap().trim().to_owned();
        Self { router: app.router(), app, owner, time, folder }
    }

    /// Stops this process and starts another one in the same directory.
    pub async fn restart(self) -> Self {
        self.restart_with(|_| {}).await
    }

    /// Like [`Self::restart`], with other settings.
    pub async fn restart_with(self, change: impl FnOnce(&mut ServerSettings)) -> Self {
        let now = self.time.load(Ordering::Relaxed);
        self.app.store.close().await;
        let Self { app, router, folder, .. } = self;
        drop(router);
        assert_eq!(Arc::strong_count(&app), 1, "nothing else may hold the databases open");
        let store = Arc::downgrade(&app.store);
        drop(app);
        assert_eq!(store.strong_count(), 0, "nothing else may hold the databases open");
        Self::in_folder(folder, now, change).await
    }

    /// Stops this process, calls `fill` to write to its store, and starts another one.
    pub async fn refilled(self, fill: impl AsyncFnOnce(&omniflow_store_sqlite::SqliteStore)) -> Self {
        let now = self.time.load(Ordering::Relaxed);
        self.app.store.close().await;
        let Self { app, router, folder, .. } = self;
        drop((router, app));
        let store = omniflow_store_sqlite::SqliteStore::open(folder.path()).await.unwrap();
        fill(&store).await;
        omniflow_store::Store::close(&store).await;
        drop(store);
        Self::in_folder(folder, now, |_| {}).await
    }

    /// The data directory.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Advances the clock; fractions of a millisecond are dropped.
    pub fn pass(&self, time: Duration) {
        self.time.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    }

    /// Sends a request to the router.
    pub async fn call(&self, request: Request<Body>) -> Answer {
        send(self.router.clone(), request).await
    }

    /// Sends a GET request with the owner's token.
    pub async fn get(&self, path: &str) -> Answer {
        self.call(request(Method::GET, path, &self.owner, None)).await
    }

    /// Sends a POST request with a JSON body and the owner's token.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(request(Method::POST, path, &self.owner, Some(body))).await
    }

    /// Sends a PUT request with a JSON body and the owner's token.
    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(request(Method::PUT, path, &self.owner, Some(body))).await
    }

    /// Sends a PATCH request with a JSON body and the owner's token.
    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(request(Method::PATCH, path, &self.owner, Some(body))).await
    }

    /// Sends a DELETE request with the owner's token.
    pub async fn delete(&self, path: &str) -> Answer {
        self.call(request(Method::DELETE, path, &self.owner, None)).await
    }

    /// The metrics, in the text format of Prometheus.
    pub async fn metrics(&self) -> String {
        let answer = self.get("/metrics").await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        String::from_utf8(answer.body.to_vec()).unwrap()
    }

    /// The value of a series, which is named with its labels as in [`Self::metrics`]; `None` if there is no such series.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let text = self.metrics().await;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map(|value| value.parse().unwrap())
    }

    /// Creates a live key with the scope `contacts:read`.
    pub async fn key(&self, name: &str) -> Value {
        let body = json!({"name": name, "environment": "live", "scopes": ["contacts:read"]});
        self.post("/v1/keys", body).await.expect(StatusCode::CREATED)
    }

    /// Creates a token with this role and returns its secret.
    pub async fn token(&self, role: &str) -> String {
        let body = json!({"name": format!("the {role}"), "role": role});
        let created = self.post("/v1/tokens", body).await.expect(StatusCode::CREATED);
        created["secret"].as_str().unwrap().to_owned()
    }

    /// The path of the token with this name.
    pub async fn path_of_token(&self, name: &str) -> String {
        let list = self.get("/v1/tokens").await.expect(StatusCode::OK);
        let token = list["items"].as_array().unwrap().iter().find(|token| token["name"] == name).unwrap();
        format!("/v1/tokens/{}", token["id"].as_str().unwrap())
    }

    /// Returns once a gateway is waiting for the response to this poll.
    pub async fn until_connected(&self, poll: &tokio::task::JoinHandle<Answer>) {
        let connected = async {
            while !self.has_connected_gateway().await {
                assert!(!poll.is_finished(), "it was answered at once");
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), connected).await.expect("no gateway is connected");
    }

    /// Whether the API reports that the first gateway is waiting for a response.
    pub async fn has_connected_gateway(&self) -> bool {
        let list = self.get("/v1/gateways").await.expect(StatusCode::OK);
        list["items"].get(0).is_some_and(|gateway| gateway["connected"] == true)
    }

    /// Delivers records as a gateway does.
    pub async fn deliver(&self, gateway_token: &str, records: Vec<AuditRecord>) -> Answer {
        self.deliver_items(gateway_token, records.into_iter().map(AuditItem::Call).collect()).await
    }

    /// Delivers items as a gateway does.
    pub async fn deliver_items(&self, gateway_token: &str, items: Vec<AuditItem>) -> Answer {
        let source =
            AuditSource { gateway: "edge".to_owned(), incarnation: Incarnation(1), vm: Incarnation(2) };
        self.deliver_bytes(gateway_token, AuditBatch { source, delivery: None, items }.encode()).await
    }

    /// Detects anomalies as the background job does.
    pub async fn detect_anomalies(&self) {
        let ControlPlane { store, notifications, clock, webhook, .. } = &*self.app;
        detect(&**store, notifications, clock, webhook.is_some()).await.unwrap();
    }

    /// Records lost gateways as the background job does.
    pub async fn record_lost_gateways(&self) {
        let ControlPlane { store, notifications, fleet, .. } = &*self.app;
        record_lost_gateways(&**store, notifications, fleet).await.unwrap();
    }

    /// Purges old records as the background job does.
    pub async fn purge(&self) {
        let ControlPlane { store, fleet, clock, retention, .. } = &*self.app;
        purge(&**store, fleet, clock, *retention).await.unwrap();
    }

    /// Delivers a batch.
    pub async fn deliver_bytes(&self, gateway_token: &str, batch: Vec<u8>) -> Answer {
        let request = Request::post("/gateway/v1/audit")
            .header(header::AUTHORIZATION, format!("Bearer {gateway_token}"))
            .header(header::CONTENT_TYPE, AUDIT_MEDIA_TYPE)
            .body(Body::from(batch))
            .unwrap();
        self.call(request).await
    }
}

/// Default settings for this data directory, with a clock that reads `time` (Unix milliseconds).
pub fn settings(folder: &Path, time: &Arc<AtomicU64>) -> ServerSettings {
    let time = Arc::clone(time);
    ServerSettings::in_folder(folder, Clock::from_fn(move || UnixMillis(time.load(Ordering::Relaxed))))
}
