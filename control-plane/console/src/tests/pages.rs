//! The pages of tokens and settings, and the properties of all pages: headers, assets, errors and colors.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::json;

use crate::testing::{Browser, location, text};
use omniflow_test_server::TestServer;

#[tokio::test]
async fn tokens_are_created_shown_once_and_revoked_by_name() {
    let server = TestServer::new().await;
    let mut browser = Browser::signed_in(&server, &server.owner).await;
    let form = [("attempt", "t1"), ("name", "edge"), ("role", "gateway"), ("lifetime", "90d")];
    let made = text(&browser.submit("/tokens", &form).await);
    assert!(made.contains("omf_token_"), "{made}");
    let again = text(&browser.submit("/tokens", &form).await);
    assert!(!again.contains("omf_token_") && again.contains("shown once"));
    let list = server.get("/v1/tokens").await.expect(StatusCode::OK);
    let tokens = list["items"].as_array().unwrap();
    let made = tokens.iter().find(|token| token["name"] == "edge").unwrap();
    assert_eq!((tokens.len(), &made["expires_at"]), (2, &json!("2027-04-15T08:00:00.000Z")));
    for (form, part) in [
        ([("attempt", "t2"), ("name", "edge"), ("role", "admin")], "A token named edge already exists"),
        ([("attempt", "t2"), ("name", "<b>"), ("role", "admin")], "&#60;b&#62;"),
        ([("attempt", "t2"), ("name", "x"), ("role", "king")], "A role must be"),
        ([("attempt", "t1"), ("name", "x"), ("role", "admin")], "submitted before with other values"),
    ] {
        let answer = browser.submit("/tokens", &form).await;
        assert!(answer.status.is_client_error() && text(&answer).contains(part), "{part}: {}", text(&answer));
    }
    let wrong = [("attempt", "t3"), ("name", "edge"), ("role", ""), ("lifetime", "date")];
    let page = text(&browser.submit("/tokens", &wrong).await);
    for part in ["A role must be", "expires_at-error\" role=\"alert\">"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let path = server.path_of_token("edge").await.replace("/v1", "") + "/revoke";
    assert!(browser.page(&path).await.contains("Type <code>edge</code>"));
    assert!(text(&browser.submit(&path, &[("name", "edg")]).await).contains("type edge to confirm"));
    assert_eq!(location(&browser.submit(&path, &[("name", "edge")]).await), "/tokens");
    assert!(!browser.page("/tokens").await.contains("edge"));
    let own = server.path_of_token("owner").await.replace("/v1", "") + "/revoke";
    assert!(browser.page(&own).await.contains("<strong>You</strong>"));
    assert!(
        text(&browser.submit(&own, &[("name", "owner")]).await).contains("No other owner token is valid")
    );
    assert_eq!(browser.open("/tokens/x/revoke").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn settings_are_shown_with_their_source() {
    let server = TestServer::new().await;
    let server = server
        .restart_with(|settings| {
            let setting = |name, value: &str, source: &str| omniflow_test_server::EffectiveSetting {
                name,
                meaning: "What it is for",
                value: Some(value.to_owned()),
                source: source.to_owned(),
            };
            settings.effective =
                vec![setting("listen", "<b>:1", "flag --listen"), setting("log", "info", "default")];
        })
        .await;
    let auditor = server.token("auditor").await;
    let page = Browser::signed_in(&server, &auditor).await.page("/settings").await;
    for part in
        ["flag --listen", "&#60;b&#62;:1", &server.app.publisher.installation.id.to_string(), "the auditor"]
    {
        assert!(page.contains(part), "{part}");
    }
}

#[tokio::test]
async fn pages_have_security_headers_and_assets_are_cacheable() {
    let server = TestServer::new().await;
    let mut browser = Browser::signed_in(&server, &server.owner).await;
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
    assert!(text(&wrong).contains("<h1>Request rejected</h1>"), "{}", text(&wrong));
    let page = browser.page("/keys").await;
    let lower = page.to_lowercase();
    for inline in [" style=", "<style", "onclick", "onload", "javascript:", "http://", "https://"] {
        assert!(!lower.contains(inline), "{inline}");
    }
    for part in page.split("\"/assets/").skip(1) {
        let path = format!("/assets/{}", part.split('"').next().unwrap());
        let answer = server.call(Request::get(&path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(answer.headers[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
        assert!(answer.headers[header::X_CONTENT_TYPE_OPTIONS] == "nosniff");
    }
}

#[tokio::test]
async fn the_theme_is_stored_in_a_cookie() {
    let server = TestServer::new().await;
    let mut browser = Browser::new(&server);
    assert!(browser.page("/sign-in").await.contains("data-theme=\"system\""));
    assert_eq!(
        location(&browser.send("/preferences", &[("theme", "dark"), ("to", "/keys?q=a")]).await),
        "/keys?q=a"
    );
    assert!(browser.page("/sign-in").await.contains("data-theme=\"dark\""));
    browser.send("/preferences", &[("theme", "\"><script>")]).await;
    assert!(browser.page("/sign-in").await.contains("data-theme=\"system\""));
    // Reloading the response to a form would lose a secret or the input.
    let mut browser = Browser::signed_in(&server, &server.owner).await;
    let switch = "action=\"/preferences\"";
    assert!(browser.page("/tokens/new").await.contains(switch));
    let made = [("attempt", "t1"), ("name", "edge"), ("role", "gateway")];
    for (form, part) in [(&made[..], "omf_token_"), (&[("name", "edge"), ("role", "gateway")], "edge")] {
        let answer = text(&browser.submit("/tokens", form).await);
        assert!(answer.contains(part) && !answer.contains(switch), "{answer}");
    }
    let wrong = text(&Browser::new(&server).send("/sign-in", &[("token", "x")]).await);
    assert!(!wrong.contains(switch), "{wrong}");
}
