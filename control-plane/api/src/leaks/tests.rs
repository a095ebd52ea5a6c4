use std::time::Duration;

use axum::http::{Method, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use omniflow_policy::denial::{Denial, Outcome as CallOutcome};
use omniflow_policy::digest::Digest;
use serde_json::{Value, json};

use omniflow_service::leaks::MAX_KEYS;
use omniflow_test_server::{Answer, START, TestServer, record, request};

const DAY: u64 = 24 * 3_600_000;

async fn report(server: &TestServer, body: Value) -> Value {
    server.post("/v1/leaks", body).await.expect(StatusCode::OK)
}

fn secret(created: &Value) -> String {
    created["secret"].as_str().unwrap().to_owned()
}

fn is_revoked(server: &TestServer, secret: &str) -> bool {
    let image = server.app.publisher.publication.image().unwrap();
    image.find(&Digest::of(secret.as_bytes())).unwrap().revoked
}

async fn events(server: &TestServer, action: &str) -> Vec<Value> {
    let list = server.get(&format!("/v1/admin-log?action={action}")).await.expect(StatusCode::OK);
    list["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn encoded_keys_are_found() {
    let server = TestServer::new().await;
    let leaked = secret(&server.key("encoded").await);
    let code = |c: char| format!("\\u{:04x}", u32::from(c));
    for text in [
        format!("Authorization: Basic {}", STANDARD.encode(format!("partner:{leaked}"))),
        leaked.replace('_', "%255F"),
        leaked.chars().map(code).collect(),
        STANDARD.encode(leaked.bytes().flat_map(|byte| [byte, 0]).collect::<Vec<u8>>()),
        format!("{}\n  {}", &leaked[..20], &leaked[20..]),
    ] {
        let answer = report(&server, json!({"text": text, "revoke": false})).await;
        assert_eq!(answer["keys"][0]["key"]["name"], "encoded", "{text}");
        let counts = (&answer["unknown"], &answer["malformed"], &answer["complete"]);
        assert_eq!(counts, (&json!(0), &json!(0), &json!(true)), "{text}");
    }
}

#[tokio::test]
async fn what_leaked_is_revoked_by_secret_digest_or_text() {
    let server = TestServer::new().await;
    for (n, form) in ["secret", "digest", "text"].into_iter().enumerate() {
        let name = format!("key {n}");
        let leaked = secret(&server.key(&name).await);
        let sent = match form {
            "secret" => leaked.clone(),
            "digest" => Digest::of(leaked.as_bytes()).to_hex().to_uppercase(),
            _ => format!("curl -H 'x-api-key: {leaked}' # {leaked}"),
        };
        let answer = report(&server, json!({form: sent})).await;
        let keys = answer["keys"].as_array().unwrap();
        assert_eq!(keys.len(), 1, "{form}");
        assert_eq!((&keys[0]["key"]["name"], &keys[0]["key"]["status"]), (&json!(name), &json!("revoked")));
        assert_eq!(keys[0]["versions"], json!([{"id": 1, "was": "active"}]));
        assert_eq!((&keys[0]["revoked"], &keys[0]["replacement"]), (&json!(true), &Value::Null));
        assert_eq!((&answer["unknown"], &answer["malformed"]), (&json!(0), &json!(0)));
        assert!(is_revoked(&server, &leaked), "{form}");
        assert!(!answer.to_string().contains(&leaked) && !answer.to_string().contains(&sent), "{form}");

        let version = server.app.publisher.publication.version().unwrap();
        let again = server.post("/v1/leaks?wait=0s", json!({form: sent})).await.expect(StatusCode::OK);
        assert_eq!(again["keys"][0]["versions"], json!([{"id": 1, "was": "revoked"}]));
        assert_eq!(again["keys"][0]["revoked"], false);
        assert_eq!(again["enforcement"], json!({"complete": true, "version": version, "gateways": []}));
        assert_eq!(server.app.publisher.publication.version().unwrap(), version, "nothing was changed");
    }
    let events = events(&server, "key.leaked").await;
    assert_eq!(events.len(), 3, "one for each key, none for what was revoked before");
    assert_eq!(events[0]["before"]["versions"][0]["revoked_at"], Value::Null);
}

#[tokio::test]
async fn one_report_is_one_change_of_many_keys() {
    let server = TestServer::new().await;
    // They are listed in the order of their creation.
    let first = secret(&server.key("first").await);
    server.pass(Duration::from_millis(1));
    let second = secret(&server.key("second").await);
    server.pass(Duration::from_millis(1));
    let third = secret(&server.key("third").await);
    server.post("/v1/keys/third/rotate", json!({"overlap": "1h"})).await.expect(StatusCode::CREATED);
    let before = server.app.publisher.publication.version().unwrap();
    let unknown = "omf_live_abcdefghijklmnopqrstuvwxyz0123456789ABCD2BjG4p";
    let truncated = unknown[..40].replace("abc", "cba");
    let text = format!("{first}\n{second} {third} {unknown} {unknown} {truncated} {}", &unknown[..40]);
    let answer = server.post("/v1/leaks?wait=0s", json!({"text": text})).await.expect(StatusCode::OK);
    let reported: Vec<_> = answer["keys"].as_array().unwrap().iter().collect();
    let names: Vec<_> = reported.iter().map(|one| one["key"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["first", "second", "third"]);
    assert_eq!(reported[2]["versions"], json!([{"id": 1, "was": "rotating"}]));
    assert_eq!(reported[2]["key"]["status"], "revoked", "all versions of it");
    assert_eq!((&answer["unknown"], &answer["malformed"]), (&json!(1), &json!(1)));
    let version = answer["enforcement"]["version"].as_u64().unwrap();
    assert!(version > before && version == server.app.publisher.publication.version().unwrap());
    assert_eq!(events(&server, "key.leaked").await.len(), 3);
}

#[tokio::test]
async fn less_can_be_asked_for() {
    let server = TestServer::new().await;
    let older = secret(&server.key("ci").await);
    let rotated = server.post("/v1/keys/ci/rotate", json!({})).await.expect(StatusCode::CREATED);
    let version = server.app.publisher.publication.version().unwrap();
    let answer = report(&server, json!({"secret": older, "revoke": false})).await;
    assert_eq!((&answer["keys"][0]["revoked"], answer.get("enforcement")), (&json!(false), None));
    assert_eq!(server.app.publisher.publication.version().unwrap(), version);
    assert_eq!(events(&server, "key.leaked").await, [] as [Value; 0]);
    let answer = report(&server, json!({"secret": older, "version_only": true})).await;
    assert_eq!(answer["keys"][0]["key"]["status"], "active");
    assert!(is_revoked(&server, &older) && !is_revoked(&server, &secret(&rotated)));
}

#[tokio::test]
async fn a_successor_has_the_settings_and_another_name() {
    let server = TestServer::new().await;
    let body = json!({
        "name": "ci", "environment": "test", "scopes": ["contacts:read", "tickets:write"],
        "rate_limit": {"per_hour": 1000, "burst": 20}, "ip_allowlist": ["203.0.113.0/24"],
        "expires_at": "2027-06-01T00:00:00Z", "description": "nightly",
    });
    let created = server.post("/v1/keys", body).await.expect(StatusCode::CREATED);
    let call = async |secret: &str, attempt: &str| -> Answer {
        let body = json!({"secret": secret, "replacement": true});
        let mut call = request(Method::POST, "/v1/leaks", &server.owner, Some(body));
        call.headers_mut().insert("idempotency-key", attempt.parse().unwrap());
        server.call(call).await
    };
    let first = call(&secret(&created), "a").await;
    let answer = first.json();
    let (leaked, replacement) = (&answer["keys"][0], &answer["keys"][0]["replacement"]);
    assert_eq!((&leaked["key"]["name"], &leaked["key"]["status"]), (&json!("ci"), &json!("revoked")));
    let mut expected = created["key"].clone();
    for field in ["id", "name", "versions"] {
        assert_ne!(expected[field], replacement["key"][field]);
        expected[field] = replacement["key"][field].clone();
    }
    assert_eq!(replacement["key"], expected);
    assert_eq!(replacement["key"]["name"], "ci-2");
    assert!(!is_revoked(&server, &secret(replacement)));
    assert_eq!(events(&server, "key.created").await[0]["subject"]["name"], "ci-2");

    let again = call(&secret(&created), "a").await;
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(again.expect(StatusCode::OK), answer, "nothing is made twice");
    let other = call(&secret(replacement), "a").await;
    assert_eq!(other.problem().1, "idempotency_key_reused");
    server.pass(Duration::from_secs(3_600));
    let late = call(&secret(&created), "a").await;
    assert_eq!(late.problem().1, "already_created");
    let id = replacement["key"]["id"].as_str().unwrap();
    assert!(late.json()["detail"].as_str().unwrap().contains(&format!("/v1/keys/{id}")));
    let third = call(&secret(replacement), "b").await.expect(StatusCode::OK);
    assert_eq!(third["keys"][0]["replacement"]["key"]["name"], "ci-3");
}

#[tokio::test]
async fn names_of_successors_fit_and_what_has_expired_gets_none() {
    let server = TestServer::new().await;
    let long = "x".repeat(64);
    let leaked = secret(&server.key(&long).await);
    server.key(&format!("{}-2", &long[..62])).await;
    let answer = report(&server, json!({"secret": leaked, "replacement": true})).await;
    assert_eq!(answer["keys"][0]["replacement"]["key"]["name"], format!("{}-3", &long[..62]));
    let body =
        json!({"name": "b", "environment": "live", "scopes": [], "expires_at": "2027-01-15T09:00:00Z"});
    let ending = secret(&server.post("/v1/keys", body).await.expect(StatusCode::CREATED));
    server.pass(Duration::from_secs(3_600));
    let answer = report(&server, json!({"secret": ending, "replacement": true})).await;
    assert_eq!(answer["keys"][0]["replacement"], Value::Null);
    assert_eq!(answer["keys"][0]["versions"], json!([{"id": 1, "was": "expired"}]));
}

#[tokio::test]
async fn its_use_is_reported_from_the_log() {
    let server = TestServer::new().await;
    let created = server.key("ci").await;
    let gateway = server.token("gateway").await;
    let key = Some((created["key"]["id"].as_str().unwrap().parse().unwrap(), "ci"));
    let mut records: Vec<_> = (0..5).map(|n| record(n, START - 40 * DAY + n * 10 * DAY, key)).collect();
    records[4].source_ip = Some("198.51.100.9".parse().unwrap());
    records[4].outcome = CallOutcome::Denied(Denial::InsufficientScope);
    records[4].method = "POST".to_owned();
    records.push(record(5, START, None));
    server.deliver(&gateway, records).await;
    let answer = report(&server, json!({"secret": secret(&created)})).await;
    let (new, old) = ("2027-01-15T08:00:00.000Z", "2026-12-16T08:00:00.000Z");
    let last = "2027-01-05T08:00:00.000Z";
    assert_eq!(
        answer["keys"][0]["usage"],
        json!({
            "from": old, "to": new, "complete": true, "calls": 4, "refused": 1,
            "last_call_at": new, "last_allowed_at": last,
            "refusals": [{"reason": "insufficient_scope", "calls": 1}],
            "endpoints": [
                {"method": "GET", "endpoint": "/api/v1/contacts", "calls": 3, "refused": 0,
                 "first_call_at": old, "last_call_at": last},
                {"method": "POST", "endpoint": "/api/v1/contacts", "calls": 1, "refused": 1,
                 "first_call_at": new, "last_call_at": new},
            ],
            "more_endpoints": 0,
            "addresses": [
                {"address": "198.51.100.9", "new": true, "calls": 1, "refused": 1,
                 "first_call_at": new, "last_call_at": new},
                {"address": "203.0.113.7", "new": false, "calls": 3, "refused": 0,
                 "first_call_at": old, "last_call_at": last},
            ],
            "more_addresses": 0, "new_addresses": 1, "calls_after_revocation": 0,
            "anomalies": [],
        })
    );
}

#[tokio::test]
async fn what_was_found_unusual_is_reported() {
    let server = TestServer::new().await;
    let created = server.key("ci").await;
    let gateway = server.token("gateway").await;
    let id = created["key"]["id"].as_str().unwrap().parse().unwrap();
    let mut revoked = record(0, START, Some((id, "ci")));
    revoked.outcome = CallOutcome::Denied(Denial::KeyRevoked);
    let mut old = record(1, START - 31 * DAY, Some((id, "ci")));
    old.outcome = CallOutcome::Denied(Denial::KeyExpired);
    old.key.as_mut().unwrap().version = 2;
    server.deliver(&gateway, vec![revoked, old]).await;
    server.detect_anomalies().await;
    let all = server.get("/v1/anomalies?key=ci").await.expect(StatusCode::OK);
    assert_eq!(all["items"].as_array().unwrap().len(), 2, "{all}");
    let answer = report(&server, json!({"secret": secret(&created)})).await;
    let reported = answer["keys"][0]["usage"]["anomalies"].as_array().unwrap();
    let reported: Vec<_> = reported.iter().map(|one| (&one["kind"], &one["evidence"]["reason"])).collect();
    assert_eq!(reported, [(&json!("used_after_end"), &json!("key_revoked"))], "of the last 30 days");
}

#[tokio::test]
async fn imported_keys_are_found_as_whole_words() {
    let server = TestServer::new().await;
    let mut policy = server.get("/v1/policy").await.expect(StatusCode::OK)["document"].clone();
    policy["imported_keys"] = json!(true);
    server.put("/v1/policy", policy).await.expect(StatusCode::OK);
    let digest = Digest::of(b"sk_live_of_another_system").to_hex();
    let import = json!({"name": "moved", "environment": "live", "scopes": [], "digest": digest});
    server.post("/v1/keys", import).await.expect(StatusCode::CREATED);
    let none = report(&server, json!({"text": "KEY=xsk_live_of_another_system"})).await;
    assert_eq!(none["keys"], json!([]));
    let found = report(&server, json!({"text": "export KEY=sk_live_of_another_system;"})).await;
    assert_eq!(found["keys"][0]["key"]["status"], "revoked");
}

#[tokio::test]
async fn what_is_unknown_or_wrong_is_reported_without_what_was_sent() {
    let server = TestServer::new().await;
    let secret = secret(&server.key("ci").await);
    let unknown = "omf_live_abcdefghijklmnopqrstuvwxyz0123456789ABCD2BjG4p";
    for (body, counts) in [
        (json!({"secret": unknown}), (1, 0)),
        (json!({"secret": format!("{secret} ")}), (0, 1)),
        (json!({"secret": ""}), (0, 1)),
        (json!({"digest": "0".repeat(64)}), (1, 0)),
        (json!({"text": "nothing"}), (0, 0)),
    ] {
        let answer = server.post("/v1/leaks?wait=1s", body).await.expect(StatusCode::OK);
        let expected = json!({"keys": [], "unknown": counts.0, "malformed": counts.1, "complete": true});
        assert_eq!(answer, expected);
    }
    for (body, expected) in [
        (json!({}), (422, "invalid_field", "/secret")),
        (json!({"secret": secret, "text": secret}), (422, "invalid_field", "/secret")),
        (json!({"digest": secret}), (422, "invalid_field", "/digest")),
        (json!({"secret": [secret]}), (400, "invalid_json", "")),
        (json!({"revoke": secret}), (400, "invalid_json", "")),
        (json!({secret.clone(): 1}), (400, "invalid_json", "")),
        (json!(secret), (400, "invalid_json", "")),
    ] {
        let answer = server.post("/v1/leaks", body.clone()).await;
        let (status, code, field) = answer.problem();
        assert_eq!((status, code.as_str(), field.as_str()), expected, "{body}");
        assert!(!String::from_utf8_lossy(&answer.body).contains(&secret), "{answer:?}");
    }
    assert_eq!(server.post("/v1/leaks?wait=31s", json!({})).await.problem().2, "wait");
    assert!(!is_revoked(&server, &secret));
    let mut text = String::new();
    for n in 0..=MAX_KEYS {
        let created = server.key(&format!("key {n}")).await;
        text.push_str(created["secret"].as_str().unwrap());
    }
    assert_eq!(server.post("/v1/leaks", json!({"text": text})).await.problem().2, "/text");
}
