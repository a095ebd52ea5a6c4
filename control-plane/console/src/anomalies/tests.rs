use axum::http::StatusCode;
use omniflow_policy::denial::{Denial, Outcome};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::testing::{Browser, text, value_of};
use omniflow_test_server::{START, TestServer, record};

/// A key that was used after its revocation, with the anomaly detected.
async fn start_server() -> (TestServer, Value) {
    let server = TestServer::new().await;
    let created = server.key("ci").await;
    let gateway = server.token("gateway").await;
    let id: Uuid = created["key"]["id"].as_str().unwrap().parse().unwrap();
    let mut call = record(0, START, Some((id, "ci")));
    call.outcome = Outcome::Denied(Denial::KeyRevoked);
    call.status = 401;
    server.deliver(&gateway, vec![call, record(1, START + 1, Some((id, "ci")))]).await;
    server.detect_anomalies().await;
    (server, created)
}

#[tokio::test]
async fn an_anomaly_shows_evidence_advice_and_a_link_to_its_calls() {
    let (server, created) = start_server().await;
    let mut browser = Browser::signed_in(&server, &server.owner).await;
    let id = created["key"]["id"].as_str().unwrap();
    let page = browser.page("/anomalies").await;
    for part in [
        "Used after expiry or revocation",
        "was used once after it was revoked",
        "Next step",
        &format!("href=\"/keys/{id}\""),
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let (_, rest) = page.split_once(&format!("href=\"/audit?key={id}")).unwrap();
    let query = rest.split('"').next().unwrap().replace("&#38;", "&");
    let calls = browser.page(&format!("/audit?key={id}{query}")).await;
    assert_eq!(calls.matches("key_revoked</code>").count(), 1, "{calls}");
    assert!(browser.page("/anomalies?kind=new_network").await.contains("No anomalies"));
    assert!(browser.page("/anomalies?key=ci").await.contains("Used after expiry or revocation"));
    assert_eq!(browser.open("/anomalies?kind=odd").await.status, StatusCode::BAD_REQUEST);
    let auditor = server.token("auditor").await;
    let page = Browser::signed_in(&server, &auditor).await.page("/anomalies").await;
    assert!(!page.contains("/anomalies/leak") && !page.contains("/revoke"), "{page}");
}

#[tokio::test]
async fn a_leaked_key_is_found_and_revoked_and_its_secret_is_never_shown() {
    let (server, created) = start_server().await;
    let secret = created["secret"].as_str().unwrap();
    let mut browser = Browser::signed_in(&server, &server.owner).await;
    let attempt = value_of(&browser.page("/anomalies/leak").await, "attempt").unwrap();
    let pasted = format!("x-api-key: {secret}\nomf_live_cut");
    let search = [("secret_text", pasted.as_str()), ("measure", "search"), ("attempt", &attempt)];
    let page = text(&browser.submit("/anomalies/leak", &search).await);
    assert!(page.contains("1 key found") && page.contains("Not changed by this report"), "{page}");
    assert!(!page.contains(secret));
    assert_eq!(server.get("/v1/keys/ci").await.json()["status"], "active");

    let attempt = value_of(&browser.page("/anomalies/leak").await, "attempt").unwrap();
    let act = [
        ("secret_text", pasted.as_str()),
        ("measure", "revoke"),
        ("replacement", "yes"),
        ("attempt", &attempt),
    ];
    let page = text(&browser.submit("/anomalies/leak", &act).await);
    for part in [
        "Revoked by this report",
        "version 1 (was active)",
        ">ci-2</a>",
        "No gateways to wait for",
        "203.0.113.7",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains(secret));
    assert_eq!(page.matches("data-secret>omf_live_").count(), 1, "the secret of the replacement key, once");
    assert_eq!(server.get("/v1/keys/ci").await.json()["status"], "revoked");
    let again = text(&browser.submit("/anomalies/leak", &act).await);
    assert!(again.contains("Report already submitted") && !again.contains("omf_live_"), "{again}");
    assert_eq!(server.get("/v1/keys?q=ci").await.json()["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_rejected_report_does_not_return_the_pasted_text() {
    let (server, created) = start_server().await;
    let mut browser = Browser::signed_in(&server, &server.owner).await;
    let empty = browser.submit("/anomalies/leak", &[("secret_text", " "), ("measure", "version")]).await;
    assert_eq!(empty.status, StatusCode::UNPROCESSABLE_ENTITY);
    let page = text(&empty);
    assert!(page.contains("id=\"text-error\" role=\"alert\">Paste the secret"), "{page}");
    assert!(page.contains("value=\"version\" checked"), "{page}");
    let nothing = text(
        &browser.submit("/anomalies/leak", &[("secret_text", "nothing here"), ("measure", "revoke")]).await,
    );
    assert!(nothing.contains("No keys found") && nothing.contains("Nothing was changed"), "{nothing}");
    let auditor = server.token("auditor").await;
    let mut auditor = Browser::signed_in(&server, &auditor).await;
    let secret = created["secret"].as_str().unwrap();
    assert_eq!(
        auditor.submit("/anomalies/leak", &[("secret_text", secret)]).await.status,
        StatusCode::FORBIDDEN
    );
    let admin = server.token("admin").await;
    let mut admin = Browser::signed_in(&server, &admin).await;
    assert_eq!(admin.submit("/anomalies/leak", &[("secret_text", secret)]).await.status, StatusCode::OK);
    assert_eq!(
        server.get("/v1/admin-log?action=key.leaked").await.json()["items"][0]["principal"],
        json!({
            "name": "the admin", "token_id": server.path_of_token("the admin").await.rsplit('/').next().unwrap(),
        })
    );
}

#[tokio::test]
async fn a_pasted_secret_is_dropped_if_the_session_has_ended() {
    let (server, created) = start_server().await;
    let secret = created["secret"].as_str().unwrap();
    let mut browser = Browser::signed_in(&server, &server.owner).await;
    server.pass(std::time::Duration::from_secs(3_600));
    let answer = browser
        .send("/anomalies/leak", &[("csrf", "x"), ("secret_text", secret), ("measure", "search")])
        .await;
    let page = text(&answer);
    assert!(page.contains("measure=search") && !page.contains(secret), "{page}");
}
