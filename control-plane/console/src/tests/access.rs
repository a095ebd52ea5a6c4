//! The roles that each page and form admits, and the refusal of forms from other sites.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};

use crate::routes::{Access, PageRoute};
use crate::state::{Console, ConsoleState};
use crate::testing::{Browser, location, text};
use omniflow_domain::token::Role;
use omniflow_test_server::{TestServer, request};

fn filled(path: &str) -> String {
    path.replace("{id}", "nobody").replace("{version}", "1")
}

async fn browsers(server: &TestServer) -> Vec<(Role, Browser<'_>)> {
    let mut browsers = vec![(Role::Owner, Browser::signed_in(server, &server.owner).await)];
    for role in [Role::Admin, Role::Auditor] {
        let token = server.token(role.as_str()).await;
        browsers.push((role, Browser::signed_in(server, &token).await));
    }
    browsers
}

#[tokio::test]
async fn every_page_and_form_admits_only_its_declared_roles() {
    let server = TestServer::new().await;
    let routes = crate::routes(console_of(&server));
    let pages = routes.table().to_vec();
    assert!(pages.len() >= 6);
    let mut browsers = browsers(&server).await;
    for PageRoute { method, path, access } in pages {
        let Access::Roles(roles) = access else {
            assert!(
                ["/sign-in", "/preferences", "/assets/{file}"].contains(&path),
                "{path} is open to everybody"
            );
            continue;
        };
        let path = filled(path);
        for (role, browser) in &mut browsers {
            // Signing out would end the test, and a stream has no end.
            if path.starts_with("/sign-out") || path == "/audit/live" {
                continue;
            }
            let answer = match method {
                Method::GET => browser.open(&path).await,
                _ => browser.submit(&path, &[]).await,
            };
            let refused = answer.status == StatusCode::FORBIDDEN;
            assert_eq!(refused, !roles.contains(role), "{method} {path} as {role}: {}", answer.status);
            assert!(!answer.status.is_server_error(), "{method} {path} as {role}: {}", text(&answer));
        }
        // Without a session, and with the credential of the API, which pages do not accept.
        let mut stranger = Browser::new(&server);
        let answer = match method {
            Method::GET => stranger.open(&path).await,
            _ => stranger.send(&path, &[]).await,
        };
        let asked = if answer.status == StatusCode::UNAUTHORIZED {
            answer.body.is_empty() || text(&answer).contains("<h1>Sign in</h1>")
        } else {
            location(&answer).starts_with("/sign-in")
        };
        assert!(asked, "{method} {path}");
        let answer = server.call(request(method.clone(), &path, &server.owner, None)).await;
        assert_ne!(answer.status, StatusCode::OK, "{method} {path}");
    }
}

#[tokio::test]
async fn forms_of_other_origins_are_refused() {
    let server = TestServer::new().await;
    let routes = crate::routes(console_of(&server));
    let mut browser = Browser::signed_in(&server, &server.owner).await;
    let csrf = browser.csrf().await;
    for PageRoute { method, path, access } in routes.table().to_vec() {
        if method != Method::POST {
            continue;
        }
        let path = filled(path);
        let body = format!("csrf={csrf}");
        for (name, value) in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("x-nothing", "x"),
        ] {
            let request = Request::post(&path)
                .header(header::HOST, "127.0.0.1:8080")
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .header(name, value)
                .body(Body::from(body.clone()))
                .unwrap();
            let answer = browser.call(request).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} with {name}: {value}");
        }
        if matches!(access, Access::Roles(roles) if roles.contains(&Role::Owner)) {
            for wrong in [&[][..], &[("csrf", "")], &[("csrf", "0000")], &[("csrf", "x"), ("csrf", &csrf)]] {
                let answer = browser.send(&path, wrong).await;
                assert!(text(&answer).contains("<h1>Resubmit this form?</h1>"), "{path} {wrong:?}");
            }
        }
    }
    assert_eq!(browser.open("/keys").await.status, StatusCode::OK, "nobody was signed out");
}

#[tokio::test]
async fn unknown_paths_return_html_to_browsers_and_problems_to_programs() {
    let server = TestServer::new().await;
    let mut browser = Browser::signed_in(&server, &server.owner).await;
    let page = browser.open("/nothing").await;
    assert_eq!(page.status, StatusCode::NOT_FOUND);
    assert!(text(&page).contains("<h1>Page not found</h1>"));
    assert_eq!(browser.open("/v1/nothing").await.problem().1, "not_found");
    let page = browser.open("/audit/1/payload").await;
    assert_eq!(page.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(text(&page).contains("<h1>Request rejected</h1>"), "{}", text(&page));
    let request =
        Request::delete("/v1/keys").header(header::ACCEPT, "text/html").body(Body::empty()).unwrap();
    assert_eq!(browser.call(request).await.problem().1, "method_not_allowed");
    assert_eq!(server.get("/nothing").await.problem().1, "not_found");
}

/// The state of a server's console in the types of this build of the crate: the server itself uses another build.
fn console_of(server: &TestServer) -> Arc<Console> {
    let console = &server.app.console;
    Arc::new(Console {
        authentication: Arc::clone(&console.authentication),
        clock: console.clock.clone(),
        entropy: console.entropy.clone(),
        gateway_url: console.gateway_url.clone(),
        keys: Arc::clone(&console.keys),
        tokens: Arc::clone(&console.tokens),
        sessions: Arc::clone(&console.sessions),
        policies: Arc::clone(&console.policies),
        leaks: Arc::clone(&console.leaks),
        request_log: Arc::clone(&console.request_log),
        anomalies: Arc::clone(&console.anomalies),
        admin_log: Arc::clone(&console.admin_log),
        gateways: Arc::clone(&console.gateways),
        enforcement_watch: Arc::clone(&console.enforcement_watch),
        console: Arc::new(ConsoleState::new(Vec::new(), false)),
    })
}
