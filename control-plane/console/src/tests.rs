//! What holds for all pages: who is let in, how sessions end, what browsers are told.

use std::sync::Arc;

use crate::enforcement_watch::EnforcementWatch;
use crate::state::{Console, ConsoleState};
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, StatusCode, header};
use serde_json::json;

use super::routes::{Access, PageRoute};
use super::testing::{Browser, location, text};
use omf::testing::{TestServer, request};
use omniflow_domain::token::Role;

const MINUTE: Duration = Duration::from_secs(60);

fn filled(path: &str) -> String {
    path.replace("{id}", "nobody").replace("{version}", "1")
}

async fn browsers(plane: &TestServer) -> Vec<(Role, Browser<'_>)> {
    let mut browsers = vec![(Role::Owner, Browser::signed_in(plane, &plane.owner).await)];
    for role in [Role::Admin, Role::Auditor] {
        let token = plane.token(role.as_str()).await;
        browsers.push((role, Browser::signed_in(plane, &token).await));
    }
    browsers
}

#[tokio::test]
async fn every_page_and_form_lets_in_the_declared_roles_and_nobody_else() {
    let plane = TestServer::new().await;
    let routes = super::routes(console_of(&plane));
    let pages = routes.table().to_vec();
    assert!(pages.len() >= 6);
    let mut browsers = browsers(&plane).await;
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
            // Signing out would end the walk, and a stream has no end.
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
        // Without a session, and with the API's credential, which is none here.
        let mut stranger = Browser::new(&plane);
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
        let answer = plane.call(request(method.clone(), &path, &plane.owner, None)).await;
        assert_ne!(answer.status, StatusCode::OK, "{method} {path}");
    }
}

#[tokio::test]
async fn forms_of_others_are_refused() {
    let plane = TestServer::new().await;
    let routes = super::routes(console_of(&plane));
    let mut browser = Browser::signed_in(&plane, &plane.owner).await;
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
                assert!(text(&answer).contains("<h1>Send it again?</h1>"), "{path} {wrong:?}");
            }
        }
    }
    assert_eq!(browser.open("/keys").await.status, StatusCode::OK, "nobody was signed out");
}

#[tokio::test]
async fn a_session_begins_with_a_token_and_goes_where_the_reader_wanted_to() {
    let plane = TestServer::new().await;
    let mut browser = Browser::new(&plane);
    let sent = browser.open("/keys?status=active&q=a%26b").await;
    let path = location(&sent).to_owned();
    assert_eq!(path, "/sign-in?to=%2Fkeys%3Fstatus%3Dactive%26q%3Da%2526b");
    let page = browser.page(&path).await;
    assert_eq!(super::testing::value_of(&page, "to").unwrap(), "/keys?status=active&#38;q=a%26b");
    let gateway = plane.token("gateway").await;
    for (token, says) in [
        ("", "Paste a token"),
        ("omf_token_x", "no token of this control plane"),
        (gateway.as_str(), "is a gateway"),
    ] {
        let answer = browser.send("/sign-in", &[("token", token), ("to", "/keys?q=a")]).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(text(&answer).contains(says) && text(&answer).contains("value=\"/keys?q=a\""), "{says}");
        assert!(token.is_empty() || !text(&answer).contains(token));
        assert!(browser.cookies.is_empty());
    }
    let answer = browser.send("/sign-in", &[("token", &plane.owner), ("to", "/keys?q=a")]).await;
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
async fn nobody_is_led_to_another_server() {
    let plane = TestServer::new().await;
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
        let answer = Browser::new(&plane).send("/sign-in", &[("token", &plane.owner), ("to", to)]).await;
        assert_eq!(location(&answer), "/", "{to}");
        let answer = Browser::new(&plane).send("/preferences", &[("theme", "dark"), ("to", to)]).await;
        assert_eq!(location(&answer), "/", "{to}");
    }
}

#[tokio::test]
async fn a_session_ends_when_it_is_idle_and_after_twelve_hours() {
    let plane = TestServer::new().await;
    let mut browser = Browser::signed_in(&plane, &plane.owner).await;
    for _ in 0..24 {
        plane.pass(29 * MINUTE);
        browser.page("/keys").await;
    }
    // 11 h 36 min: idle for half an hour, or over.
    plane.pass(23 * MINUTE);
    browser.page("/keys").await;
    plane.pass(MINUTE);
    assert_eq!(location(&browser.open("/keys").await), "/sign-in?to=%2Fkeys&why=ended");
    let mut browser = Browser::signed_in(&plane, &plane.owner).await;
    plane.pass(30 * MINUTE);
    assert_eq!(location(&browser.open("/").await), "/sign-in?why=ended");
}

#[tokio::test]
async fn a_session_ends_with_its_token_and_survives_a_restart() {
    let plane = TestServer::new().await;
    let admin = plane.token("admin").await;
    let expiring = json!({"name": "short", "role": "auditor", "expires_at": "2027-01-15T08:10:00Z"});
    let short = plane.post("/v1/tokens", expiring).await.expect(StatusCode::CREATED);
    let cookies = [
        Browser::signed_in(&plane, &plane.owner).await.cookies,
        Browser::signed_in(&plane, &admin).await.cookies,
        Browser::signed_in(&plane, short["secret"].as_str().unwrap()).await.cookies,
    ];
    let plane = plane.restart().await;
    let open = async |plane: &TestServer, cookies: &_| {
        Browser { plane, cookies: Clone::clone(cookies) }.open("/keys").await.status
    };
    for cookies in &cookies {
        assert_eq!(open(&plane, cookies).await, StatusCode::OK);
    }
    plane.delete(&plane.path_of_token("the admin").await).await;
    plane.pass(10 * MINUTE);
    let statuses =
        [open(&plane, &cookies[0]).await, open(&plane, &cookies[1]).await, open(&plane, &cookies[2]).await];
    assert_eq!(statuses, [StatusCode::OK, StatusCode::SEE_OTHER, StatusCode::SEE_OTHER]);
}

#[tokio::test]
async fn signing_out_ends_one_session_or_all_of_the_token() {
    let plane = TestServer::new().await;
    let admin = plane.token("admin").await;
    let mut one = Browser::signed_in(&plane, &plane.owner).await;
    let mut two = Browser::signed_in(&plane, &plane.owner).await;
    let mut three = Browser::signed_in(&plane, &plane.owner).await;
    let mut other = Browser::signed_in(&plane, &admin).await;
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

/// A browser whose session has ended, and what the forms carry that it has loaded before.
async fn after_its_session(plane: &TestServer) -> (Browser<'_>, String) {
    let mut browser = Browser::signed_in(plane, &plane.owner).await;
    let csrf = browser.csrf().await;
    plane.pass(30 * MINUTE);
    (browser, csrf)
}

#[tokio::test]
async fn a_form_that_comes_after_its_session_is_not_lost() {
    let plane = TestServer::new().await;
    let (mut browser, csrf) = after_its_session(&plane).await;
    let form = [("csrf", csrf.as_str()), ("name", "typed & kept"), ("scopes", "a:b"), ("scopes", "c:d")];
    let asked = browser.send("/keys/new", &form).await;
    assert_eq!(asked.status, StatusCode::UNAUTHORIZED);
    let value = |page: &str, name: &str| {
        super::testing::value_of(page, name).unwrap().replace("&#38;", "&").replace("&amp;", "&")
    };
    let (to, carried) = (value(&text(&asked), "to"), value(&text(&asked), "carried"));
    let wrong = browser.send("/sign-in", &[("token", "x"), ("to", &to), ("carried", &carried)]).await;
    assert_eq!(value(&text(&wrong), "carried"), carried);
    let again =
        browser.send("/sign-in", &[("token", &plane.owner), ("to", &to), ("carried", &carried)]).await;
    let page = text(&again);
    assert!(page.contains("action=\"/keys/new\"") && !page.contains(&csrf), "{page}");
    assert_eq!(value(&page, "name"), "typed & kept");
    assert!(page.contains("value=\"a:b\"") && page.contains("value=\"c:d\""));
    let csrf = value(&page, "csrf");
    let sent = browser.send("/keys/new", &[("csrf", &csrf), ("name", "typed & kept")]).await;
    assert!(text(&sent).contains("id=\"name-error\""), "{}", text(&sent));
}

#[tokio::test]
async fn a_form_without_fields_is_not_lost_either() {
    let plane = TestServer::new().await;
    let (mut browser, csrf) = after_its_session(&plane).await;
    let asked = text(&browser.send("/audit/1/payload", &[("csrf", &csrf)]).await);
    let carried = super::testing::value_of(&asked, "carried").unwrap();
    assert_eq!(carried, "");
    let form = [("token", plane.owner.as_str()), ("to", "/audit/1/payload"), ("carried", "")];
    let again = text(&browser.send("/sign-in", &form).await);
    assert!(
        again.contains("<h1>Send it again?</h1>") && again.contains("action=\"/audit/1/payload\""),
        "{again}"
    );
}

#[tokio::test]
async fn who_is_held_off_loses_nothing_that_comes_along() {
    let plane = TestServer::new().await;
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
        let answer = plane.call(request).await;
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
    assert_eq!(super::testing::value_of(&page, "carried").as_deref(), Some("name=typed"));
    assert_eq!(super::testing::value_of(&page, "to").as_deref(), Some("/keys/new"));
}

#[tokio::test]
async fn tokens_are_made_shown_once_and_revoked_by_their_name() {
    let plane = TestServer::new().await;
    let mut browser = Browser::signed_in(&plane, &plane.owner).await;
    let form = [("attempt", "t1"), ("name", "edge"), ("role", "gateway"), ("lifetime", "90d")];
    let made = text(&browser.submit("/tokens", &form).await);
    assert!(made.contains("omf_token_"), "{made}");
    let again = text(&browser.submit("/tokens", &form).await);
    assert!(!again.contains("omf_token_") && again.contains("shown once"));
    let list = plane.get("/v1/tokens").await.expect(StatusCode::OK);
    let tokens = list["items"].as_array().unwrap();
    let made = tokens.iter().find(|token| token["name"] == "edge").unwrap();
    assert_eq!((tokens.len(), &made["expires_at"]), (2, &json!("2027-04-15T08:00:00.000Z")));
    for (form, part) in [
        ([("attempt", "t2"), ("name", "edge"), ("role", "admin")], "Another token is called edge"),
        ([("attempt", "t2"), ("name", "<b>"), ("role", "admin")], "&#60;b&#62;"),
        ([("attempt", "t2"), ("name", "x"), ("role", "king")], "A role is"),
        ([("attempt", "t1"), ("name", "x"), ("role", "admin")], "Another call was made"),
    ] {
        let answer = browser.submit("/tokens", &form).await;
        assert!(answer.status.is_client_error() && text(&answer).contains(part), "{part}: {}", text(&answer));
    }
    let wrong = [("attempt", "t3"), ("name", "edge"), ("role", ""), ("lifetime", "date")];
    let page = text(&browser.submit("/tokens", &wrong).await);
    for part in ["A role is", "expires_at-error\" role=\"alert\">"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let path = plane.path_of_token("edge").await.replace("/v1", "") + "/revoke";
    assert!(browser.page(&path).await.contains("Type <code>edge</code>"));
    assert!(text(&browser.submit(&path, &[("name", "edg")]).await).contains("Type edge to confirm"));
    assert_eq!(location(&browser.submit(&path, &[("name", "edge")]).await), "/tokens");
    assert!(!browser.page("/tokens").await.contains("edge"));
    let own = plane.path_of_token("owner").await.replace("/v1", "") + "/revoke";
    assert!(browser.page(&own).await.contains("<strong>you</strong>"));
    assert!(text(&browser.submit(&own, &[("name", "owner")]).await).contains("last valid token"));
    assert_eq!(browser.open("/tokens/x/revoke").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn settings_are_shown_with_their_origin() {
    let plane = TestServer::new().await;
    let plane = plane
        .restart_with(|settings| {
            let setting = |name, value: &str, source: &str| omf::SettingInForce {
                name,
                meaning: "What it is for",
                value: Some(value.to_owned()),
                source: source.to_owned(),
            };
            settings.in_force =
                vec![setting("listen", "<b>:1", "flag --listen"), setting("log", "info", "default")];
        })
        .await;
    let auditor = plane.token("auditor").await;
    let page = Browser::signed_in(&plane, &auditor).await.page("/settings").await;
    for part in
        ["flag --listen", "&#60;b&#62;:1", &plane.app.publisher.installation.id.to_string(), "the auditor"]
    {
        assert!(page.contains(part), "{part}");
    }
}

#[tokio::test]
async fn the_number_of_sessions_of_a_token_is_bounded() {
    let plane = TestServer::new().await;
    let mut first = Browser::signed_in(&plane, &plane.owner).await;
    let mut last = Browser::new(&plane);
    for _ in 0..omniflow_domain::session::MAX_SESSIONS {
        plane.pass(Duration::from_millis(1));
        last = Browser::signed_in(&plane, &plane.owner).await;
    }
    last.page("/keys").await;
    assert_eq!(first.open("/keys").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn neither_session_nor_token_is_in_the_database() {
    let plane = TestServer::new().await;
    let browser = Browser::signed_in(&plane, &plane.owner).await;
    let session = &browser.cookies["omf-session"];
    for file in std::fs::read_dir(plane.folder()).unwrap() {
        let content = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!content.windows(session.len()).any(|window| window == session.as_bytes()));
    }
}

#[tokio::test]
async fn over_https_the_cookie_is_bound_to_it() {
    let plane = TestServer::new().await;
    let sign_in = |origin: &'static str| {
        Request::post("/sign-in")
            .header(header::HOST, "keys.example")
            .header(header::ORIGIN, origin)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(format!("token={}", plane.owner)))
            .unwrap()
    };
    let answer = plane.call(sign_in("https://keys.example")).await;
    let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(
        cookie.starts_with("__Host-omf-session=") && cookie.ends_with("SameSite=Lax; Secure"),
        "{cookie}"
    );
    let answer = plane.call(sign_in("http://keys.example")).await;
    let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.starts_with("omf-session="), "{cookie}");
}

#[tokio::test]
async fn pages_tell_browsers_what_keeps_them_safe_and_files_may_be_kept() {
    let plane = TestServer::new().await;
    let mut browser = Browser::signed_in(&plane, &plane.owner).await;
    for path in ["/keys", "/sign-in", "/nothing", "/keys?limit=x"] {
        let answer = browser.open(path).await;
        let policy = answer.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("base-uri 'none'"));
        assert_eq!(answer.headers[header::X_FRAME_OPTIONS], "DENY", "{path}");
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store", "{path}");
        assert_eq!(answer.headers[header::REFERRER_POLICY], "same-origin", "{path}");
        assert_eq!(answer.headers["cross-origin-opener-policy"], "same-origin", "{path}");
    }
    let wrong = browser.open("/keys?nothing=x").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    assert!(text(&wrong).contains("<h1>That did not work</h1>"), "{}", text(&wrong));
    let page = browser.page("/keys").await;
    let lower = page.to_lowercase();
    for inline in [" style=", "<style", "onclick", "onload", "javascript:", "http://", "https://"] {
        assert!(!lower.contains(inline), "{inline}");
    }
    for part in page.split("\"/assets/").skip(1) {
        let path = format!("/assets/{}", part.split('"').next().unwrap());
        let answer = plane.call(Request::get(&path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(answer.headers[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
        assert!(answer.headers[header::X_CONTENT_TYPE_OPTIONS] == "nosniff");
    }
}

#[tokio::test]
async fn browsers_and_programs_are_told_in_their_own_words_what_is_not_there() {
    let plane = TestServer::new().await;
    let mut browser = Browser::signed_in(&plane, &plane.owner).await;
    let page = browser.open("/nothing").await;
    assert_eq!(page.status, StatusCode::NOT_FOUND);
    assert!(text(&page).contains("<h1>Not found</h1>"));
    assert_eq!(browser.open("/v1/nothing").await.problem().1, "not_found");
    let page = browser.open("/audit/1/payload").await;
    assert_eq!(page.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(text(&page).contains("<h1>That did not work</h1>"), "{}", text(&page));
    let request =
        Request::delete("/v1/keys").header(header::ACCEPT, "text/html").body(Body::empty()).unwrap();
    assert_eq!(browser.call(request).await.problem().1, "method_not_allowed");
    assert_eq!(plane.get("/nothing").await.problem().1, "not_found");
}

#[tokio::test]
async fn colours_are_kept_in_the_browser() {
    let plane = TestServer::new().await;
    let mut browser = Browser::new(&plane);
    assert!(browser.page("/sign-in").await.contains("data-theme=\"system\""));
    assert_eq!(
        location(&browser.send("/preferences", &[("theme", "dark"), ("to", "/keys?q=a")]).await),
        "/keys?q=a"
    );
    assert!(browser.page("/sign-in").await.contains("data-theme=\"dark\""));
    browser.send("/preferences", &[("theme", "\"><script>")]).await;
    assert!(browser.page("/sign-in").await.contains("data-theme=\"system\""));
    // To show the answer to a form anew would lose it: a secret, or what was typed.
    let mut browser = Browser::signed_in(&plane, &plane.owner).await;
    let switch = "action=\"/preferences\"";
    assert!(browser.page("/tokens/new").await.contains(switch));
    let made = [("attempt", "t1"), ("name", "edge"), ("role", "gateway")];
    for (form, part) in [(&made[..], "omf_token_"), (&[("name", "edge"), ("role", "gateway")], "edge")] {
        let answer = text(&browser.submit("/tokens", form).await);
        assert!(answer.contains(part) && !answer.contains(switch), "{answer}");
    }
    let wrong = text(&Browser::new(&plane).send("/sign-in", &[("token", "x")]).await);
    assert!(!wrong.contains(switch), "{wrong}");
}

/// The state of a server's console, as this build of the crate has it: the server itself was built with another.
fn console_of(server: &TestServer) -> Arc<Console> {
    let (app, console) = (&server.app, &server.app.console);
    Arc::new(Console {
        authentication: Arc::clone(&console.authentication),
        publisher: Arc::clone(&console.publisher),
        clock: console.clock.clone(),
        entropy: console.entropy.clone(),
        gateway_url: console.gateway_url.clone(),
        keys: Arc::clone(&console.keys),
        tokens: Arc::clone(&console.tokens),
        sessions: Arc::clone(&console.sessions),
        policies: Arc::clone(&console.policies),
        leaks: Arc::clone(&console.leaks),
        request_log: Arc::clone(&console.request_log),
        admin_log: Arc::clone(&console.admin_log),
        gateways: Arc::clone(&console.gateways),
        enforcement_watch: Arc::new(EnforcementWatch::new(&app.fleet, &app.publisher, &app.signals)),
        console: Arc::new(ConsoleState::new(Vec::new(), false)),
    })
}
