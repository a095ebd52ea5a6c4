//! The tokens that each endpoint admits.

use axum::Router;
use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::json;
use tower::ServiceExt;

use super::*;
use crate::endpoint::BODY_LIMIT;
use crate::tests::{Endpoint, table};
use omniflow_test_server::{TestServer, request};

fn is_public(path: &str) -> bool {
    ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs/", "/docs/{*file}"].contains(&path)
}

#[tokio::test]
async fn every_endpoint_lets_in_the_declared_roles_and_nobody_else() {
    let server = TestServer::new().await;
    let mut tokens = vec![(Role::Owner, server.owner.clone())];
    for role in [Role::Admin, Role::Auditor, Role::Gateway] {
        tokens.push((role, server.token(role.as_str()).await));
    }
    let table = table(&server);
    assert!(table.len() >= 18);
    for Endpoint { method, path, roles } in table {
        let filled = path.replace("{id}", "nobody").replace("{version}", "1").replace("{n}", "0");
        if roles.is_empty() {
            assert!(is_public(&path), "{path} is open to everybody");
            continue;
        }
        for (role, token) in &tokens {
            let request = request(method.clone(), &filled, token, Some(json!({})));
            // A stream has no end, so only its headers are checked.
            let is_admitted = roles.iter().any(|one| one == role.as_str());
            if path == "/v1/audit/stream" && is_admitted {
                let answer = server.router.clone().oneshot(request).await.unwrap();
                assert_eq!(answer.status(), StatusCode::OK, "{path} as {role}");
                continue;
            }
            let answer = server.call(request).await;
            let refused = answer.status == StatusCode::FORBIDDEN;
            assert_eq!(refused, !is_admitted, "{method} {path} as {role}: {}", answer.status);
            assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path} as {role}");
            assert_ne!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{method} {path} as {role}");
            if refused {
                assert_eq!(answer.problem().1, "forbidden");
            }
        }
        let without = Request::builder().method(method.clone()).uri(&filled).body(Body::empty()).unwrap();
        assert_eq!(server.call(without).await.problem().1, "unauthenticated", "{method} {path}");
    }
}

fn roles_of(access: Access) -> Vec<&'static str> {
    match access {
        Access::Public => Vec::new(),
        Access::Roles(roles) => roles.iter().map(|role| role.as_str()).collect(),
    }
}

#[tokio::test]
async fn the_roles_are_those_of_the_contract() {
    let server = TestServer::new().await;
    for Endpoint { method, path, roles } in table(&server) {
        let expected = match path.as_str() {
            path if is_public(path) => Access::Public,
            path if path.starts_with("/gateway/") => GATEWAY,
            path if path.starts_with("/v1/tokens") => OWNER,
            path if path.starts_with("/v1/keys") && method != Method::GET => WRITE,
            "/v1/gateways/{id}" => WRITE,
            "/v1/policy" if method != Method::GET => WRITE,
            "/v1/policy/rollback" | "/v1/leaks" => WRITE,
            "/v1/audit/{id}/payload" => AUDIT,
            "/v1/audit/payload-key/rotate" => OWNER,
            _ => READ,
        };
        assert_eq!(roles, roles_of(expected), "{method} {path}");
    }
}

#[tokio::test]
async fn one_whole_token_in_one_header_and_nothing_else_is_taken() {
    let server = TestServer::new().await;
    let owner = &server.owner;
    let call = async |headers: &[(&str, String)]| {
        let mut request = Request::get("/v1/policy");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        server.call(request.body(Body::empty()).unwrap()).await
    };
    let right = ("authorization", format!("Bearer {owner}"));
    assert_eq!(call(std::slice::from_ref(&right)).await.status, StatusCode::OK);
    assert_eq!(call(&[("authorization", format!("bearer {owner}"))]).await.status, StatusCode::OK);
    for wrong in [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Basic {owner}"),
        owner.clone(),
        format!("Bearer  {owner}"),
        format!("Bearer {owner}x"),
        format!("Bearer {}", &owner[..owner.len() - 1]),
        format!("Bearer {}", owner.to_uppercase()),
        format!("Bearer {owner}, Bearer {owner}"),
        format!("Bearer {}", Digest::of(owner.as_bytes()).to_hex()),
    ] {
        let answer = call(&[("authorization", wrong.clone())]).await;
        assert_eq!(answer.problem().1, "unauthenticated", "{wrong}");
        assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer realm=\"omniflow\"");
        assert!(!String::from_utf8_lossy(&answer.body).contains(owner.as_str()));
    }
    assert_eq!(call(&[right.clone(), right.clone()]).await.problem().1, "unauthenticated");
    assert_eq!(call(&[("x-api-key", owner.clone())]).await.problem().1, "unauthenticated");
}

#[tokio::test]
async fn an_endpoint_without_the_middleware_fails_closed() {
    let server = TestServer::new().await;
    let open: Router<()> = Router::new().route("/", axum::routing::get(async |_: Authenticated| "let in"));
    let answer = omniflow_test_server::send(open, request(Method::GET, "/", &server.owner, None)).await;
    assert_eq!(answer.problem().0, 500);
}

#[tokio::test]
async fn other_paths_methods_and_long_bodies_are_problems_too() {
    let server = TestServer::new().await;
    assert_eq!(server.get("/nothing").await.problem().1, "not_found");
    assert_eq!(server.delete("/v1/policy").await.problem().1, "method_not_allowed");
    let long = json!({"name": "x".repeat(BODY_LIMIT)});
    assert_eq!(server.post("/v1/keys", long).await.problem().1, "body_too_large");
    let answer = server.get("/v1/policy").await;
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
}
