//! The start and end of sessions, and forms that are submitted without one.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode, header};
use serde_json::json;

use crate::testing::{Browser, location, text, value_of};
use omniflow_test_server::TestServer;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn signing_in_starts_a_session_and_continues_to_the_requested_page() {
    let server = TestServer::new().await;
    let mut browser = Browser::new(&server);
    let sent = browser.open("/keys?status=active&q=a%26b").await;
    let path = location(&sent).to_owned();
    assert_eq!(path, "/sign-in?to=%2Fkeys%3Fstatus%3Dactive%26q%3Da%2526b");
    let page = browser.page(&path).await;
    assert_eq!(value_of(&page, "to").unwrap(), "/keys?status=active&#38;q=a%26b");
    let gateway = server.token("gateway").await;
    for (token, says) in [
        ("", "Enter a token"),
        ("omf_token_x", "does not exist or was revoked"),
        (gateway.as_str(), "This is a gateway token"),
    ] {
        let answer = browser.send("/sign-in", &[("token", token), ("to", "/keys?q=a")]).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(text(&answer).contains(says) && text(&answer).contains("value=\"/keys?q=a\""), "{says}");
        assert!(token.is_empty() || !text(&answer).contains(token));
        assert!(browser.cookies.is_empty());
    }
    let answer = browser.send("/sign-in", &[("token", &server.owner), ("to", "/keys?q=a")]).await;
    assert_eq!(location(&answer), "/keys?q=a");
    let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(
        cookie.starts_with("omf-session=") && cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"),
        "{cookie}"
    );
    assert_eq!(location(&browser.open("/sign-in?to=/keys?q=a").await), "/keys?q=a");
    let page = browser.page("/keys").await;
    assert!(page.contains("aria-current=\"page\">API keys</a>"), "{page}");
}

#[tokio::test]
async fn redirects_stay_on_this_server() {
    let server = TestServer::new().await;
    for to in [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "evil",
        "",
        "/\t/evil",
        "/sign-in",
        "\\\\evil",
    ] {
        let answer = Browser::new(&server).send("/sign-in", &[("token", &server.owner), ("to", to)]).await;
        assert_eq!(location(&answer), "/", "{to}");
        let answer = Browser::new(&server).send("/preferences", &[("theme", "dark"), ("to", to)]).await;
        assert_eq!(location(&answer), "/", "{to}");
    }
}

#[tokio::test]
async fn a_session_ends_when_it_is_idle_and_after_twelve_hours() {
    let server = TestServer::new().await;
    let mut browser = Browser::signed_in(&server, &server.owner).await;
    for _ in 0..24 {
        server.pass(29 * MINUTE);
        browser.page("/keys").await;
    }
    // After 11 h 36 min, the session is idle for half an hour, or over.
    server.pass(23 * MINUTE);
    browser.page("/keys").await;
    server.pass(MINUTE);
    assert_eq!(location(&browser.open("/keys").await), "/sign-in?to=%2Fkeys&why=ended");
    let mut browser = Browser::signed_in(&server, &server.owner).await;
    server.pass(30 * MINUTE);
    assert_eq!(location(&browser.open("/").await), "/sign-in?why=ended");
}

#[tokio::test]
async fn a_session_ends_with_its_token_and_survives_a_restart() {
    let server = TestServer::new().await;
    let admin = server.token("admin").await;
    let expiring = json!({"name": "short", "role": "auditor", "expires_at": "2027-01-15T08:10:00Z"});
    let short = server.post("/v1/tokens", expiring).await.expect(StatusCode::CREATED);
    let cookies = [
        Browser::signed_in(&server, &server.owner).await.cookies,
        Browser::signed_in(&server, &admin).await.cookies,
        Browser::signed_in(&server, short["secret"].as_str().unwrap()).await.cookies,
    ];
    let server = server.restart().await;
    let open = async |server: &TestServer, cookies: &_| {
        Browser { server, cookies: Clone::clone(cookies) }.open("/keys").await.status
    };
    for cookies in &cookies {
        assert_eq!(open(&server, cookies).await, StatusCode::OK);
    }
    server.delete(&server.path_of_token("the admin").await).await;
    server.pass(10 * MINUTE);
    let statuses = [
        open(&server, &cookies[0]).await,
        open(&server, &cookies[1]).await,
        open(&server, &cookies[2]).await,
    ];
    assert_eq!(statuses, [StatusCode::OK, StatusCode::SEE_OTHER, StatusCode::SEE_OTHER]);
}

#[tokio::test]
async fn signing_out_ends_one_session_or_all_of_the_token() {
    let server = TestServer::new().await;
    let admin = server.token("admin").await;
    let mut one = Browser::signed_in(&server, &server.owner).await;
    let mut two = Browser::signed_in(&server, &server.owner).await;
    let mut three = Browser::signed_in(&server, &server.owner).await;
    let mut other = Browser::signed_in(&server, &admin).await;
    let kept = one.cookies.clone();
    assert_eq!(location(&one.submit("/sign-out", &[]).await), "/sign-in?why=out");
    assert!(one.cookies.is_empty());
    one.cookies = kept;
    assert_eq!(one.open("/keys").await.status, StatusCode::SEE_OTHER, "the server has forgotten it");
    two.page("/keys").await;
    two.submit("/sign-out/everywhere", &[]).await;
    assert_eq!(three.open("/keys").await.status, StatusCode::SEE_OTHER);
    other.page("/keys").await;
}

/// A browser whose session has ended, and the hidden fields of the forms that it had loaded.
async fn after_its_session(server: &TestServer) -> (Browser<'_>, String) {
    let mut browser = Browser::signed_in(server, &server.owner).await;
    let csrf = browser.csrf().await;
    server.pass(30 * MINUTE);
    (browser, csrf)
}

#[tokio::test]
async fn a_form_submitted_after_its_session_is_kept() {
    let server = TestServer::new().await;
    let (mut browser, csrf) = after_its_session(&server).await;
    let form = [("csrf", csrf.as_str()), ("name", "typed & kept"), ("scopes", "a:b"), ("scopes", "c:d")];
    let asked = browser.send("/keys/new", &form).await;
    assert_eq!(asked.status, StatusCode::UNAUTHORIZED);
    let value =
        |page: &str, name: &str| value_of(page, name).unwrap().replace("&#38;", "&").replace("&amp;", "&");
    let (to, carried) = (value(&text(&asked), "to"), value(&text(&asked), "carried"));
    let wrong = browser.send("/sign-in", &[("token", "x"), ("to", &to), ("carried", &carried)]).await;
    assert_eq!(value(&text(&wrong), "carried"), carried);
    let again =
        browser.send("/sign-in", &[("token", &server.owner), ("to", &to), ("carried", &carried)]).await;
    let page = text(&again);
    assert!(page.contains("action=\"/keys/new\"") && !page.contains(&csrf), "{page}");
    assert_eq!(value(&page, "name"), "typed & kept");
    assert!(page.contains("value=\"a:b\"") && page.contains("value=\"c:d\""));
    let csrf = value(&page, "csrf");
    let sent = browser.send("/keys/new", &[("csrf", &csrf), ("name", "typed & kept")]).await;
    assert!(text(&sent).contains("id=\"name-error\""), "{}", text(&sent));
}

#[tokio::test]
async fn a_form_without_fields_submitted_after_its_session_is_kept() {
    let server = TestServer::new().await;
    let (mut browser, csrf) = after_its_session(&server).await;
    let asked = text(&browser.send("/audit/1/payload", &[("csrf", &csrf)]).await);
    let carried = value_of(&asked, "carried").unwrap();
    assert_eq!(carried, "");
    let form = [("token", server.owner.as_str()), ("to", "/audit/1/payload"), ("carried", "")];
    let again = text(&browser.send("/sign-in", &form).await);
    assert!(
        again.contains("<h1>Resubmit this form?</h1>") && again.contains("action=\"/audit/1/payload\""),
        "{again}"
    );
}

#[tokio::test]
async fn a_throttled_sign_in_keeps_the_carried_form() {
    let server = TestServer::new().await;
    let peer: SocketAddr = "192.0.2.1:4000".parse().unwrap();
    let form = [("token", "omf_token_x"), ("to", "/keys/new"), ("carried", "name=typed")];
    let mut held_off = None;
    for _ in 0..1_000 {
        let mut request = Request::post("/sign-in")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin")
            .body(Body::from(serde_urlencoded::to_string(form).unwrap()))
            .unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = server.call(request).await;
        if answer.status != StatusCode::UNPROCESSABLE_ENTITY {
            held_off = Some(answer);
            break;
        }
    }
    let answer = held_off.unwrap();
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.headers.contains_key(header::RETRY_AFTER));
    let page = text(&answer);
    assert!(page.contains("<h1>Sign in</h1>") && page.contains("id=\"token-error\""), "{page}");
    assert_eq!(value_of(&page, "carried").as_deref(), Some("name=typed"));
    assert_eq!(value_of(&page, "to").as_deref(), Some("/keys/new"));
}

#[tokio::test]
async fn the_number_of_sessions_of_a_token_is_bounded() {
    let server = TestServer::new().await;
    let mut first = Browser::signed_in(&server, &server.owner).await;
    let mut last = Browser::new(&server);
    for _ in 0..omniflow_domain::session::MAX_SESSIONS {
        server.pass(Duration::from_millis(1));
        last = Browser::signed_in(&server, &server.owner).await;
    }
    last.page("/keys").await;
    assert_eq!(first.open("/keys").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn neither_session_nor_token_is_in_the_database() {
    let server = TestServer::new().await;
    let browser = Browser::signed_in(&server, &server.owner).await;
    let session = &browser.cookies["omf-session"];
    for file in std::fs::read_dir(server.folder()).unwrap() {
        let content = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!content.windows(session.len()).any(|window| window == session.as_bytes()));
    }
}

#[tokio::test]
async fn the_cookie_is_restricted_to_https_over_https() {
    let server = TestServer::new().await;
    let sign_in = |origin: &'static str| {
        Request::post("/sign-in")
            .header(header::HOST, "keys.example")
            .header(header::ORIGIN, origin)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(format!("token={}", server.owner)))
            .unwrap()
    };
    let answer = server.call(sign_in("https://keys.example")).await;
    let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(
        cookie.starts_with("__Host-omf-session=") && cookie.ends_with("SameSite=Lax; Secure"),
        "{cookie}"
    );
    let answer = server.call(sign_in("http://keys.example")).await;
    let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.starts_with("omf-session="), "{cookie}");
}
