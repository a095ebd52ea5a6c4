//! A control plane in a temporary folder, called without a network, with a clock that tests set.

use std::fmt::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use omniflow_policy::audit::{AuditBatch, AuditItem, AuditKey, AuditRecord, AuditSource};
use omniflow_policy::denial::Outcome;
use omniflow_policy::digest::Digest;
use omniflow_policy::gateway::{AUDIT_MEDIA_TYPE, Incarnation};
use omniflow_policy::key::Environment;
use omniflow_policy::time::UnixMillis;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use uuid::Uuid;

use crate::composition::ControlPlane;
pub use crate::golden::check as golden;
use crate::router;
use crate::settings::ServerSettings;
use omniflow_domain::clock::Clock;
use omniflow_service::jobs::detection::detect;
use omniflow_service::jobs::gateway_loss::record_lost_gateways;
use omniflow_service::jobs::retention::purge;

/// 2027-01-15T08:00:00Z.
pub const START: u64 = 1_800_000_000_000;

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

/// A response that was read to its end.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// The response headers.
    pub headers: HeaderMap,
    /// The complete body.
    pub body: Bytes,
}

impl TestServer {
    /// Starts on an empty data directory at [`START`], with the first snapshot image built.
    pub async fn new() -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), START, |_| {}).await
    }

    async fn in_folder(folder: TempDir, now: u64, change: impl FnOnce(&mut ServerSettings)) -> Self {
        let time = Arc::new(AtomicU64::new(now));
        let mut settings = settings(folder.path(), &time);
        change(&mut settings);
        let app = Arc::new(ControlPlane::open(&settings).await.unwrap());
        let owner = std::fs::read_to_string(folder.path().join("admin-token")).unwrap().trim().to_owned();
        app.publisher.build_image().await.unwrap();
        Self { router: router::router(&app), app, owner, time, folder }
    }

    /// One that has not built its image yet.
    pub async fn starting() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let time = Arc::new(AtomicU64::new(START));
        let app = Arc::new(ControlPlane::open(&settings(folder.path(), &time)).await.unwrap());
        let owner = std::fs::read_to_string(folder.path().join("admin-token")).unwrap().trim().to_owned();
        Self { router: router::router(&app), app, owner, time, folder }
    }

    /// Ends this process and starts another on the same folder.
    pub async fn restart(self) -> Self {
        self.restart_with(|_| {}).await
    }

    /// The same with other settings.
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

    /// Ends this process, lets `fill` write to its store, and starts another one.
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

    /// Issues a live key that reads contacts.
    pub async fn key(&self, name: &str) -> Value {
        let body = json!({"name": name, "environment": "live", "scopes": ["contacts:read"]});
        self.post("/v1/keys", body).await.expect(StatusCode::CREATED)
    }

    /// Makes a token with this role and gives its secret.
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

    /// Returns when a gateway waits for the answer to this poll.
    pub async fn until_connected(&self, poll: &tokio::task::JoinHandle<Answer>) {
        while !self.has_connected_gateway().await {
            assert!(!poll.is_finished(), "it was answered at once");
            tokio::task::yield_now().await;
        }
    }

    /// Whether the API tells of a gateway, the first, that waits for an answer.
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

impl Answer {
    /// The body as JSON; `null` if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The body, if the status is this one.
    pub fn expect(self, status: StatusCode) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// Status, code and field of a problem.
    pub fn problem(&self) -> (u16, String, String) {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{self:?}");
        let body = self.json();
        assert_eq!(body["status"], self.status.as_u16());
        assert!(!body["detail"].as_str().unwrap().is_empty());
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        (self.status.as_u16(), text("code"), text("field"))
    }
}

/// The fields of all warnings of this thread, as text.
#[derive(Clone, Default)]
pub struct Warnings(Arc<Mutex<String>>);

impl Warnings {
    /// Gathers them from now on, until the guard goes.
    pub fn gather() -> (Self, DefaultGuard) {
        let warnings = Self::default();
        let logging = log_to(tracing_subscriber::registry().with(warnings.clone()));
        (warnings, logging)
    }

    /// The warnings so far, one a line.
    pub fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl<S: tracing::Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == tracing::Level::WARN {
            let mut text = self.0.lock().unwrap();
            event.record(&mut |field: &tracing::field::Field, value: &dyn fmt::Debug| {
                write!(text, "{field}={value:?} ").unwrap();
            });
            text.push('\n');
        }
    }
}

/// Gives this thread's events to a subscriber, until the guard goes.
///
/// While a process has one subscriber, the thread that comes to an event first decides for all whether it is of interest, by
/// whether that very thread has it. Of two, both are asked: so there is always another.
pub fn log_to(subscriber: impl tracing::Subscriber + Send + Sync + 'static) -> DefaultGuard {
    static ANOTHER: LazyLock<tracing::Dispatch> =
        LazyLock::new(|| tracing::Dispatch::new(tracing_subscriber::registry()));
    LazyLock::force(&ANOTHER);
    tracing::subscriber::set_default(subscriber)
}

/// Default settings for this data directory, with a clock that reads `time` (Unix milliseconds).
pub fn settings(folder: &Path, time: &Arc<AtomicU64>) -> ServerSettings {
    let time = Arc::clone(time);
    ServerSettings::in_folder(folder, Clock::from_fn(move || UnixMillis(time.load(Ordering::Relaxed))))
}

/// Sends a request to a router and reads the whole response.
pub async fn send(router: Router, request: Request<Body>) -> Answer {
    let response = router.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    Answer { status: parts.status, headers: parts.headers, body }
}

/// Builds a request with a bearer token, and a JSON body if there is one.
pub fn request(method: Method, path: &str, token: &str, body: Option<Value>) -> Request<Body> {
    let request =
        Request::builder().method(method).uri(path).header(header::AUTHORIZATION, format!("Bearer {token}"));
    match body {
        Some(body) => request
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .unwrap(),
        None => request.body(Body::empty()).unwrap(),
    }
}

/// A call with a key that was let through.
pub fn record(sequence: u64, time: u64, key: Option<(Uuid, &str)>) -> AuditRecord {
    AuditRecord {
        sequence,
        time: UnixMillis(time),
        key: key.map(|(id, name)| AuditKey {
            id,
            name: name.to_owned(),
            version: 1,
            environment: Environment::Live,
        }),
        method: "GET".to_owned(),
        endpoint: Some("/api/v1/contacts".to_owned()),
        path: "/api/v1/contacts".to_owned(),
        status: 200,
        outcome: Outcome::Allowed,
        latency_us: 900,
        source_ip: Some("203.0.113.7".parse().unwrap()),
        request_id: format!("request-{sequence}"),
        request_bytes: 120,
        response_bytes: 340,
        argument_hash: Digest::of(b"\n"),
        argument_hash_partial: false,
    }
}
