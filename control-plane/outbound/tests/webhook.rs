//! The webhook against a receiver that answers as a test says.
#![allow(clippy::disallowed_methods, reason = "tests prepare files")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use omniflow_outbound::webhook::{SIGNATURE, WebhookError, WebhookSettings, read_secret};
use omniflow_policy::time::UnixMillis;
use ring::hmac;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use omniflow_policy::outcome::{Denial, Outcome};
use serde_json::Value;
use uuid::Uuid;

use omniflow_test_server::{START, TestServer, record};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

type Received = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// Answers with these statuses, one after the other, and with 204 when there are no more.
async fn receiver(statuses: &[u16]) -> (String, Received) {
    let received = Received::default();
    let statuses = statuses.to_vec();
    let take = move |State(received): State<Received>, headers: HeaderMap, body: Bytes| {
        let mut received = received.lock().unwrap();
        let status = statuses.get(received.len()).copied().unwrap_or(204);
        received.push((headers, body));
        // A redirect that is followed would come back here.
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
    omniflow_files::private::write_private(&path, &format!("{SECRET}\n")).unwrap();
    path
}

async fn plane(url: &str) -> TestServer {
    let plane = TestServer::new().await;
    let settings = WebhookSettings { url: url.to_owned(), secret_file: secret_file(plane.folder()) };
    plane.restart_with(|with| with.webhook = Some(settings)).await
}

async fn use_after_end(plane: &TestServer) {
    let token = plane.token("gateway").await;
    let mut call = record(0, START, Some((Uuid::from_u128(9), "ci")));
    call.outcome = Outcome::Denied(Denial::KeyRevoked);
    plane.deliver(&token, vec![call]).await;
    plane.detect_anomalies().await;
}

async fn send(plane: &TestServer) {
    let (app, webhook) = (&plane.app, plane.app.webhook.as_ref().unwrap());
    webhook.send_due(&*app.store, &app.clock).await.unwrap();
}

fn check_signature(headers: &HeaderMap, body: &[u8], now: u64) {
    let text = headers[SIGNATURE].to_str().unwrap();
    let (time, tag) = text.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    assert_eq!(time.parse::<u64>().unwrap(), now / 1_000);
    let tag = hex::decode(tag).unwrap();
    let message = [time.as_bytes(), b".", body].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    hmac::verify(&key, &message, &tag).unwrap();
}

#[tokio::test]
async fn a_finding_is_signed_and_sent_until_it_is_taken_over_restarts_too() {
    let (url, received) = receiver(&[500, 302]).await;
    let plane = plane(&url).await;
    use_after_end(&plane).await;
    let count = || received.lock().unwrap().len();
    send(&plane).await;
    assert_eq!(count(), 1);
    send(&plane).await;
    assert_eq!(count(), 1, "not before its time");
    let settings = WebhookSettings { url, secret_file: plane.folder().join("webhook-secret") };
    let plane = plane.restart_with(|with| with.webhook = Some(settings)).await;
    for expected in [2, 3, 3] {
        plane.pass(Duration::from_secs(3_600));
        send(&plane).await;
        assert_eq!(count(), expected);
    }
    let all = received.lock().unwrap();
    for ((headers, body), hours) in all.iter().zip([0, 1, 2]) {
        check_signature(headers, body, START + hours * 3_600_000);
        let anomaly: Value = serde_json::from_slice(body).unwrap();
        assert_eq!((&anomaly["kind"], &anomaly["key_name"]), (&"used_after_end".into(), &"ci".into()));
        assert!(!String::from_utf8_lossy(body).contains(SECRET));
    }
}

#[tokio::test]
async fn what_nobody_takes_is_given_up_after_three_days() {
    let plane = plane("http://127.0.0.1:9/nobody").await;
    use_after_end(&plane).await;
    let due = async |plane: &TestServer| plane.app.store.due_deliveries(UnixMillis(u64::MAX), 9).await;
    send(&plane).await;
    assert_eq!(due(&plane).await.unwrap()[0].attempts, 1);
    plane.pass(Duration::from_secs(3 * 86_400));
    send(&plane).await;
    assert_eq!(due(&plane).await.unwrap().len(), 0);
}

#[test]
fn a_secret_is_long_and_for_few_to_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = secret_file(folder.path());
    assert_eq!(read_secret(&path).unwrap().as_str(), SECRET);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(read_secret(&path).unwrap_err().to_string().contains("chmod 600"));
    omniflow_files::private::write_private(&path, "short").unwrap();
    assert!(matches!(read_secret(&path), Err(WebhookError::Short(_))));
    assert!(matches!(read_secret(folder.path().join("none").as_path()), Err(WebhookError::File(_))));
}
