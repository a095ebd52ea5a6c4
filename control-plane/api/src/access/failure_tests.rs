//! Failed authentications: throttled by address and logged, without affecting valid tokens.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, StatusCode, header};
use serde_json::json;

use omniflow_service::authentication::Rejection;
use omniflow_test_server::{Answer, TestServer, Warnings, request};

async fn call_from(server: &TestServer, peer: [u8; 4], path: &str, token: &str) -> Answer {
    let mut request = request(Method::GET, path, token, None);
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from((peer, 4711))));
    server.call(request).await
}

#[tokio::test]
async fn a_valid_token_is_taken_whatever_fails_at_its_address() {
    let (warnings, _logging) = Warnings::gather();
    let server = TestServer::new().await;
    const NAT: [u8; 4] = [192, 0, 2, 7];
    const ELSEWHERE: [u8; 4] = [192, 0, 2, 8];
    let mut statuses = Vec::new();
    for _ in 0..100 {
        statuses.push(call_from(&server, NAT, "/v1/keys", "omf_token_wrong").await.status.as_u16());
    }
    assert_eq!(statuses[..60], [401; 60]);
    assert_eq!(statuses[99], 429);
    let throttled = call_from(&server, NAT, "/v1/keys", "omf_token_wrong").await;
    assert_eq!(throttled.problem(), (429, "too_many_attempts".to_owned(), String::new()));
    assert_eq!(throttled.headers[header::RETRY_AFTER], "1");
    let wrong = call_from(&server, ELSEWHERE, "/v1/keys", "omf_token_wrong").await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED, "another address");
    for token in [server.owner.clone(), server.token("admin").await] {
        assert_eq!(call_from(&server, NAT, "/v1/keys", &token).await.status, StatusCode::OK);
    }
    // A request that is refused because of its role, or that has no token, does not count as an attempt.
    let gateway = server.token("gateway").await;
    assert_eq!(call_from(&server, NAT, "/v1/keys", &gateway).await.status, StatusCode::FORBIDDEN);
    let mut without = Request::get("/v1/keys").body(Body::empty()).unwrap();
    without.extensions_mut().insert(ConnectInfo(SocketAddr::from((NAT, 4711))));
    assert_eq!(server.call(without).await.status, StatusCode::UNAUTHORIZED);

    let text = warnings.text();
    assert_eq!(text.matches("authentication failed").count(), 2, "{text}");
    assert!(text.contains("peer=192.0.2.7 ") && !text.contains("omf_token"), "{text}");
    let metrics = server.get("/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics.body);
    let number = |name: &str| -> u64 {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let answered = number("omf_failed_authentications_total{throttled=\"false\"}");
    let throttled = number("omf_failed_authentications_total{throttled=\"true\"}");
    assert_eq!(answered + throttled, 102);
    assert!(throttled >= 30, "{throttled}: a test as slow as this refills the bucket");
}

#[tokio::test]
async fn unknown_tokens_do_not_reach_the_database_and_revoked_ones_end() {
    let server = TestServer::new().await;
    let admin = server.token("admin").await;
    let path = server.path_of_token("the admin").await;
    assert_eq!(call_from(&server, [192, 0, 2, 7], "/v1/keys", &admin).await.status, StatusCode::OK);
    assert_eq!(server.delete(&path).await.status, StatusCode::NO_CONTENT);
    server.app.store.close().await;
    for token in [admin.as_str(), "omf_token_wrong"] {
        let answer = call_from(&server, [192, 0, 2, 7], "/v1/keys", token).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "it was answered without the database");
    }
    let known = call_from(&server, [192, 0, 2, 7], "/v1/keys", &server.owner).await;
    assert_eq!(known.status, StatusCode::INTERNAL_SERVER_ERROR, "the database decides on known ones");
}

#[tokio::test]
async fn gateways_are_slowed_by_nothing_once_their_token_is_right() {
    let server = TestServer::new().await;
    let poll = async |token: &str| {
        let body = json!({"gateway": "edge", "incarnation": "000000000000000b", "filter_version": "0.1.0",
            "snapshot_format": 1, "installation": null, "version": 0, "wait_ms": 0, "clock": 1_800_000_000_000_u64, "vms": []});
        let mut request = request(Method::POST, "/gateway/v1/poll", token, Some(body));
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 7], 4711))));
        server.call(request).await.status
    };
    let mut last = StatusCode::OK;
    for _ in 0..100 {
        last = poll("omf_token_wrong").await;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    let right = server.token("gateway").await;
    assert_eq!(poll(&right).await, StatusCode::OK);
    let server = server.restart().await;
    assert_eq!(
        call_from(&server, [192, 0, 2, 7], "/v1/keys", &server.owner).await.status,
        StatusCode::OK,
        "tokens are known after a restart"
    );
}

#[tokio::test]
async fn refused_gateways_are_logged_without_their_tokens() {
    let (warnings, _logging) = Warnings::gather();
    let server = TestServer::new().await;
    let body = json!({"name": "short", "role": "gateway", "expires_at": "2027-01-15T08:00:01Z"});
    let short = server.post("/v1/tokens", body).await.expect(StatusCode::CREATED);
    let short = short["secret"].as_str().unwrap().to_owned();
    server.pass(Duration::from_secs(2));
    let poll = async |token: &str| {
        let mut request = request(Method::POST, "/gateway/v1/poll", token, Some(json!({})));
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 7], 4711))));
        server.call(request).await.status
    };
    for _ in 0..3 {
        assert_eq!(poll("omf_token_wrong").await, StatusCode::UNAUTHORIZED);
        assert_eq!(poll(&short).await, StatusCode::UNAUTHORIZED);
        assert_eq!(poll(&server.owner).await, StatusCode::FORBIDDEN);
        let without = Request::post("/gateway/v1/audit").body(Body::empty()).unwrap();
        assert_eq!(server.call(without).await.status, StatusCode::UNAUTHORIZED);
    }
    let elsewhere = request(Method::GET, "/v1/keys", "omf_token_wrong", None);
    server.call(elsewhere).await;
    let text = warnings.text();
    assert_eq!(text.lines().count(), 4, "{text}");
    for reason in [Rejection::NoToken, Rejection::UnknownToken, Rejection::ExpiredToken, Rejection::WrongRole]
    {
        assert_eq!(text.matches(&format!("reason={reason}")).count(), 1, "{text}");
    }
    assert_eq!(text.matches("peer=192.0.2.7:4711").count(), 3, "{text}");
    for token in ["omf_token_wrong", &short, &server.owner] {
        assert!(!text.contains(token), "{text}");
    }
}
