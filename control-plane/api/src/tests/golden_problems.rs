//! Every problem that the API returns, compared with the golden file `golden/problems.txt`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use axum::RequestExt;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use omniflow_policy::audit::AuditItem;
use omniflow_policy::digest::Digest;
use omniflow_policy::gateway::AUDIT_MEDIA_TYPE;
use omniflow_policy::payload::{CallPayload, PayloadState};
use serde_json::{Value, json};
use tokio::time::timeout;

use omniflow_api_types::problem_code::ProblemCode;
use omniflow_domain::key::Key;
use omniflow_domain::key::KeyReference;
use omniflow_test_server::{Answer, START, TestServer, record, request};

/// The problems so far.
#[derive(Default)]
struct Report {
    text: String,
    codes: BTreeSet<String>,
}

impl Report {
    /// Records a problem. `unsteady` lists the values that differ in each run, such as an identifier.
    fn note(&mut self, call: &str, answer: &Answer, unsteady: &[&str]) {
        let (status, code, _) = answer.problem();
        let mut body = serde_json::to_string_pretty(&answer.json()).unwrap();
        for one in unsteady {
            body = body.replace(one, "…");
        }
        writeln!(self.text, "=== {code}: {call}\n{status}\n{}{body}\n", headers(&answer.headers)).unwrap();
        self.codes.insert(code);
    }
}

fn headers(headers: &HeaderMap) -> String {
    let mut lines: Vec<String> = headers
        .iter()
        .filter(|(name, _)| **name != header::CONTENT_LENGTH)
        .map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()))
        .collect();
    lines.sort();
    lines.concat()
}

fn post(server: &TestServer, path: &str, media_type: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path)
        .header(header::AUTHORIZATION, format!("Bearer {}", server.owner))
        .header(header::CONTENT_TYPE, media_type)
        .body(body.into())
        .unwrap()
}

fn with(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

fn new_key(name: &str) -> Value {
    json!({"name": name, "environment": "live", "scopes": ["contacts:read"]})
}

/// Puts a key into the database without the publisher.
async fn store(server: &TestServer, name: &str, change: impl FnOnce(&mut Key)) {
    let mut key = server.app.store.key(&KeyReference::from("ci")).await.unwrap().unwrap();
    key.id = uuid::Uuid::from_u128(u128::from(name.len() as u64));
    key.name = name.parse().unwrap();
    key.versions[0].digest = Digest::of(name.as_bytes());
    change(&mut key);
    let mut transaction = server.app.store.begin().await.unwrap();
    transaction.insert_keys(std::slice::from_ref(&key)).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn unreadable(server: &TestServer, report: &mut Report) {
    for (media_type, path, body) in [
        ("application/json", "/v1/keys", "{"),
        (
            "application/json",
            "/v1/keys",
            r#"{"name": "x", "environment": "live", "scopes": [], "secret": "x"}"#,
        ),
        ("application/toml", "/v1/policy/diff", "scopes = []\nroutes = ["),
        ("text/plain", "/v1/keys", "{}"),
        ("text/plain", "/v1/policy/diff", "{}"),
        (
            "application/json",
            "/v1/policy/diff",
            "{\"scopes\": [],\n \"routes\": [{\"path\": \"x\", \"methods\": [], \"scope\": \"a:b\"}]}",
        ),
    ] {
        let answer = server.call(post(server, path, media_type, body)).await;
        report.note(&format!("POST {path}, {media_type}"), &answer, &[]);
    }
    // A body whose reader fails before the endpoint's limit is reached, as when a connection breaks.
    let broken = post(server, "/v1/keys", "application/json", vec![b' '; 3_000_000]).with_limited_body();
    report.note("POST /v1/keys, cut short", &server.call(broken).await, &[]);
    let long = post(server, "/v1/keys", "application/json", vec![b' '; 300_000]);
    report.note("POST /v1/keys, 300,000 bytes", &server.call(long).await, &[]);
    for path in
        ["/v1/keys?colour=red", "/v1/keys?limit=0", "/v1/audit?status=6xx", "/nothing", "/v1/keys/nobody"]
    {
        report.note(&format!("GET {path}"), &server.get(path).await, &[]);
    }
    let call =
        with(request(Method::POST, "/v1/keys", &server.owner, Some(new_key("x"))), "idempotency-key", "a b");
    report.note("POST /v1/keys, Idempotency-Key: a b", &server.call(call).await, &[]);
    report.note("DELETE /v1/policy", &server.delete("/v1/policy").await, &[]);
}

async fn refused(server: &TestServer, report: &mut Report) {
    let none = Request::get("/v1/keys").body(Body::empty()).unwrap();
    report.note("GET /v1/keys, no token", &server.call(none).await, &[]);
    let wrong = || {
        let mut call = request(Method::GET, "/v1/keys", "omf_token_wrong", None);
        call.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 7], 4711))));
        call
    };
    let mut answer = server.call(wrong()).await;
    while answer.status == StatusCode::UNAUTHORIZED {
        answer = server.call(wrong()).await;
    }
    report.note("GET /v1/keys, one of many wrong tokens", &answer, &[]);
    let auditor = server.token("auditor").await;
    let call = request(Method::POST, "/v1/keys", &auditor, Some(new_key("x")));
    report.note("POST /v1/keys as auditor", &server.call(call).await, &[]);
    let gateway = server.token("gateway").await;
    let batch = with(
        request(Method::POST, "/gateway/v1/audit", &gateway, Some(json!({}))),
        "content-type",
        AUDIT_MEDIA_TYPE,
    );
    report.note("POST /gateway/v1/audit", &server.call(batch).await, &[]);
    let gone = request(Method::GET, "/gateway/v1/images/1/chunks/0", &gateway, None);
    report.note("GET /gateway/v1/images/1/chunks/0", &server.call(gone).await, &[]);
    report.note("DELETE /v1/tokens/{owner}", &server.delete(&server.path_of_token("owner").await).await, &[]);
}

/// Polls with tokens that are not permitted for the gateway.
async fn refused_gateways(server: &TestServer, report: &mut Report) {
    let token = async |name: &str, gateways: Value| {
        let body = json!({"name": name, "role": "gateway", "gateways": gateways});
        let created = server.post("/v1/tokens", body).await.expect(StatusCode::CREATED);
        created["secret"].as_str().unwrap().to_owned()
    };
    let poll_with = async |token: &str, run: u64, installation: Value, version: u64| {
        let body = json!({
            "gateway": "edge", "incarnation": format!("{run:016x}"), "filter_version": "0.1.0",
            "snapshot_format": 1, "installation": installation, "version": version, "wait_ms": 0, "clock": 0, "vms": [],
        });
        server.call(request(Method::POST, "/gateway/v1/poll", token, Some(body))).await
    };
    let poll = async |token: &str, run: u64| poll_with(token, run, json!(null), 0).await;
    let (first, second) = (token("first", json!([])).await, token("second", json!(["edg*"])).await);
    assert_eq!(poll(&first, 0).await.status, StatusCode::OK);
    report.note("POST /gateway/v1/poll, another token", &poll(&second, 0).await, &[]);
    let other = token("third", json!(["eu-1"])).await;
    report.note("POST /gateway/v1/poll, not listed", &poll(&other, 0).await, &[]);
    let installation = json!(server.app.publisher.installation.id);
    let unpublished = poll_with(&first, 0, installation, START + 3_600_000).await;
    report.note("POST /gateway/v1/poll, an unpublished version", &unpublished, &[]);
    for run in 1..1_000 {
        assert_eq!(poll(&first, run).await.status, StatusCode::OK);
    }
    report.note("POST /gateway/v1/poll, too many runs", &poll(&first, 1_000).await, &[]);
}

/// The refusal of one of several replays that are requested at the same time.
async fn replay_beside_another(server: &TestServer) -> Answer {
    let replay = || server.post("/v1/policy/replay", json!({"scopes": [], "routes": []}));
    let until_refused = async {
        loop {
            let answers = <[Answer; 4]>::from(tokio::join!(replay(), replay(), replay(), replay()));
            if let Some(refused) = answers.into_iter().find(|answer| !answer.status.is_success()) {
                return refused;
            }
        }
    };
    timeout(Duration::from_secs(30), until_refused).await.expect("no replay is refused")
}

async fn in_the_way(server: &TestServer, report: &mut Report) {
    server.key("ci").await;
    report.note("POST /v1/keys, name in use", &server.post("/v1/keys", new_key("ci")).await, &[]);
    report.note(
        "POST /v1/tokens, name in use",
        &server.post("/v1/tokens", json!({"name": "owner", "role": "admin"})).await,
        &[],
    );
    let scopes = json!({"name": "x", "environment": "live", "scopes": ["nothing:read"]});
    report.note("POST /v1/keys, unknown scope", &server.post("/v1/keys", scopes).await, &[]);
    let mut imported = new_key("imported");
    imported["digest"] = json!(Digest::of(b"other").to_hex());
    report.note("POST /v1/keys, imported", &server.post("/v1/keys", imported.clone()).await, &[]);
    let mut policy = server.get("/v1/policy").await.json()["document"].take();
    policy["imported_keys"] = json!(true);
    server.put("/v1/policy", policy).await;
    // Later than the previous key, so that lists have a fixed order.
    server.pass(Duration::from_millis(1));
    server.post("/v1/keys", imported.clone()).await;
    imported["name"] = json!("again");
    report.note("POST /v1/keys, imported twice", &server.post("/v1/keys", imported).await, &[]);
    let nothing = json!({"scopes": [], "routes": []});
    report.note("PUT /v1/policy, without scopes", &server.put("/v1/policy", nothing).await, &[]);
    let mut policy = server.get("/v1/policy").await.json()["document"].take();
    policy.as_object_mut().unwrap().remove("imported_keys");
    report.note(
        "POST /v1/policy/replay, beside another",
        &replay_beside_another(server).await,
        &["retry-after"],
    );
    report.note("PUT /v1/policy, without imported_keys", &server.put("/v1/policy", policy).await, &[]);
    let stale =
        with(request(Method::PATCH, "/v1/keys/ci", &server.owner, Some(json!({}))), "if-match", "\"7\"");
    report.note("PATCH /v1/keys/ci, If-Match: \"7\"", &server.call(stale).await, &[]);
}

async fn ended(server: &TestServer, report: &mut Report) {
    server.key("revoked").await;
    server.post("/v1/keys/revoked/revoke", json!({})).await;
    report.note("PATCH a revoked key", &server.patch("/v1/keys/revoked", json!({})).await, &[]);
    report.note("rotate a revoked key", &server.post("/v1/keys/revoked/rotate", json!({})).await, &[]);
    let mut ending = new_key("expired");
    ending["expires_at"] = json!("2027-01-15T09:00:00Z");
    server.post("/v1/keys", ending).await;
    store(server, "exhausted", |key| key.versions[0].version = u16::MAX).await;
    report.note("rotate once too often", &server.post("/v1/keys/exhausted/rotate", json!({})).await, &[]);
    store(server, "unpublished", |_| {}).await;
    let call = json!({"key": "unpublished", "method": "GET", "path": "/"});
    report.note("POST /v1/policy/explain", &server.post("/v1/policy/explain", call).await, &[]);

    let attempt = |name| {
        with(request(Method::POST, "/v1/keys", &server.owner, Some(new_key(name))), "idempotency-key", "1")
    };
    let made = server.call(attempt("once")).await;
    report.note("Idempotency-Key of another call", &server.call(attempt("twice")).await, &[]);
    server.pass(Duration::from_secs(3_600));
    let id = made.json()["key"]["id"].as_str().unwrap().to_owned();
    report.note("Idempotency-Key, an hour later", &server.call(attempt("once")).await, &[&id]);
    report.note("rotate an expired key", &server.post("/v1/keys/expired/rotate", json!({})).await, &[]);
}

async fn without_its_payload_key(server: TestServer, report: &mut Report) -> TestServer {
    let key_file = server.folder().join("payload-key");
    // A value that is the same in each run.
    std::fs::write(&key_file, "1f".repeat(32)).unwrap();
    let server = server.restart().await;
    let token = async |role: &str| {
        let body = json!({"name": format!("another {role}"), "role": role});
        server.post("/v1/tokens", body).await.json()["secret"].as_str().unwrap().to_owned()
    };
    let (gateway, auditor) = (token("gateway").await, token("auditor").await);
    let payload = CallPayload {
        query: b"a=1".to_vec(),
        body: Vec::new(),
        state: PayloadState::Whole,
        media_type: String::new(),
        content_encoding: String::new(),
    };
    let call = record(0, START, Some((uuid::Uuid::nil(), "ci")));
    server.deliver_items(&gateway, vec![AuditItem::CallWithPayload(call, payload)]).await;
    std::fs::write(key_file, "0f".repeat(32)).unwrap();
    let server = server.restart().await;
    let read = request(Method::GET, "/v1/audit/1/payload", &auditor, None);
    report.note("GET /v1/audit/1/payload, another payload key", &server.call(read).await, &[]);
    server
}

#[tokio::test]
async fn every_problem_is_the_one_in_the_golden_file() {
    let mut report = Report::default();
    let server = TestServer::new().await;
    unreadable(&server, &mut report).await;
    refused(&server, &mut report).await;
    refused_gateways(&server, &mut report).await;
    in_the_way(&server, &mut report).await;
    ended(&server, &mut report).await;
    let server = without_its_payload_key(server, &mut report).await;
    server.app.store.close().await;
    report.note("GET /v1/tokens, the database is gone", &server.get("/v1/tokens").await, &[]);
    let starting = TestServer::starting().await;
    report.note("POST /v1/keys, while starting", &starting.post("/v1/keys", new_key("x")).await, &[]);

    let all: BTreeSet<String> = ProblemCode::all().map(|code| code.as_str().to_owned()).collect();
    assert_eq!(report.codes, all, "a code that the API answers is not provoked here");
    omniflow_golden::check("problems.txt", &report.text);
}
