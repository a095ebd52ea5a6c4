//! The webhook with a receiver whose responses the test controls.
#![allow(clippy::disallowed_methods, reason = "tests prepare files")]

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use omniflow_outbound::webhook::WebhookSettings;
use omniflow_policy::denial::{Denial, Outcome};
use omniflow_policy::time::UnixMillis;
use ring::hmac;
use serde_json::Value;
use uuid::Uuid;

use omniflow_test_server::{START, TestServer, record};

/// The text of the secret, without its prefix.
const SECRET: &str = "C2FVsBQIhrscChlQIMV+b5sSYspob7oDhoQFrQsZvKY=";

type Received = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// Responds with these statuses in turn, and then with 204.
async fn receiver(statuses: &[u16]) -> (String, Received) {
    let received = Received::default();
    let statuses = statuses.to_vec();
    let take = move |State(received): State<Received>, headers: HeaderMap, body: Bytes| {
        let mut received = received.lock().unwrap();
        let status = statuses.get(received.len()).copied().unwrap_or(204);
        received.push((headers, body));
        // A followed redirect would arrive here.
        let answer = (StatusCode::from_u16(status).unwrap(), [("location", "/hook")]);
        async move { answer }
    };
    let router = Router::new().route("/hook", post(take)).with_state(Arc::clone(&received));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, received)
}

fn secret_file(folder: &Path) -> PathBuf {
    let path = folder.join("webhook-secret");
    omniflow_files::private::write_private(&path, &format!("whsec_{SECRET}\n")).unwrap();
    path
}

async fn start_server(url: &str) -> TestServer {
    let server = TestServer::new().await;
    let settings = WebhookSettings { url: url.parse().unwrap(), secret_file: secret_file(server.folder()) };
    server.restart_with(|with| with.webhook = Some(settings)).await
}

async fn use_after_end(server: &TestServer) {
    let token = server.token("gateway").await;
    let mut call = record(0, START, Some((Uuid::from_u128(9), "ci")));
    call.outcome = Outcome::Denied(Denial::KeyRevoked);
    server.deliver(&token, vec![call]).await;
    server.detect_anomalies().await;
}

async fn send(server: &TestServer) {
    let (app, webhook) = (&server.app, server.app.webhook.as_ref().unwrap());
    webhook.send_due(app.delivery_source()).await.unwrap();
}

/// Verifies an attempt as a receiver does, and returns its ID.
fn verify(headers: &HeaderMap, body: &[u8], now: u64) -> String {
    let header = |name: &str| headers[name].to_str().unwrap();
    let (id, time) = (header("webhook-id"), header("webhook-timestamp"));
    assert_eq!(time.parse::<u64>().unwrap(), now / 1_000);
    let signature = STANDARD.decode(header("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
    let message = [id.as_bytes(), b".", time.as_bytes(), b".", body].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(SECRET).unwrap());
    hmac::verify(&key, &message, &signature).unwrap();
    id.to_owned()
}

#[tokio::test]
async fn an_anomaly_is_signed_and_retried_over_restarts_until_it_is_accepted() {
    let (url, received) = receiver(&[500, 302]).await;
    let server = start_server(&url).await;
    use_after_end(&server).await;
    let count = || received.lock().unwrap().len();
    send(&server).await;
    assert_eq!(count(), 1);
    send(&server).await;
    assert_eq!(count(), 1, "not before its time");
    let settings =
        WebhookSettings { url: url.parse().unwrap(), secret_file: server.folder().join("webhook-secret") };
    let server = server.restart_with(|with| with.webhook = Some(settings)).await;
    for expected in [2, 3, 3] {
        server.pass(Duration::from_secs(3_600));
        send(&server).await;
        assert_eq!(count(), expected);
    }
    let all = received.lock().unwrap();
    let mut ids = HashSet::new();
    for ((headers, body), hours) in all.iter().zip([0, 1, 2]) {
        ids.insert(verify(headers, body, START + hours * 3_600_000));
        assert!(headers.get("omniflow-signature").is_none());
        let anomaly: Value = serde_json::from_slice(body).unwrap();
        assert_eq!((&anomaly["kind"], &anomaly["key_name"]), (&"used_after_end".into(), &"ci".into()));
        assert!(!String::from_utf8_lossy(body).contains(SECRET));
    }
    assert_eq!(ids.len(), 1, "each attempt has the ID of the message");
}

#[tokio::test]
async fn each_anomaly_has_an_id_of_its_own() {
    let mut ids = HashSet::new();
    for _ in 0..2 {
        let (url, received) = receiver(&[]).await;
        // Another installation, whose anomaly has the same number.
        let server = start_server(&url).await;
        let token = server.token("gateway").await;
        for number in 0..2 {
            let mut call = record(number, START, Some((Uuid::from_u128(number.into()), "ci")));
            call.outcome = Outcome::Denied(Denial::KeyRevoked);
            server.deliver(&token, vec![call]).await;
            server.detect_anomalies().await;
        }
        send(&server).await;
        let all = received.lock().unwrap();
        ids.extend(all.iter().map(|(headers, body)| verify(headers, body, START)));
        assert_eq!(all.len(), 2);
    }
    assert_eq!(ids.len(), 4);
}

#[tokio::test]
async fn what_nobody_takes_is_given_up_after_three_days() {
    let server = start_server("http://127.0.0.1:9/nobody").await;
    use_after_end(&server).await;
    let due = async |server: &TestServer| server.app.store.due_deliveries(UnixMillis(u64::MAX), 9).await;
    send(&server).await;
    assert_eq!(due(&server).await.unwrap()[0].attempts, 1);
    server.pass(Duration::from_secs(3 * 86_400));
    send(&server).await;
    assert_eq!(due(&server).await.unwrap().len(), 0);
}
