//! Pages of keys: the same operations as in the API, with the same errors, shown at the invalid field.

use std::time::Duration;

use axum::http::{StatusCode, header};
use serde_json::{Value, json};

use crate::testing::{Browser, location, text, value_of};
use omniflow_test_server::{START, TestServer, record};

const MARKUP: &str = "<script>alert(1)</script>";

async fn owner(server: &TestServer) -> Browser<'_> {
    Browser::signed_in(server, &server.owner).await
}

async fn only_key(server: &TestServer) -> Value {
    let list = server.get("/v1/keys").await.expect(StatusCode::OK);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    list["items"][0].clone()
}

fn secret_in(page: &str) -> Option<String> {
    let (_, rest) = page.split_once("id=\"secret\"")?;
    rest.split_once('>')?.1.split('<').next().map(str::to_owned)
}

const FORM: [(&str, &str); 8] = [
    ("attempt", "a1"),
    ("name", "CI deploy"),
    ("environment", "live"),
    ("scopes", "contacts:read"),
    ("per_minute", "600"),
    ("ip_allowlist", "203.0.113.0/24\r\n2001:db8::1"),
    ("lifetime", "30d"),
    ("description", "nightly"),
];

#[tokio::test]
async fn a_key_is_reviewed_and_created_and_its_secret_is_shown_once() {
    let server = TestServer::new().await;
    let mut browser = owner(&server).await;
    let form = browser.page("/keys/new").await;
    assert!(value_of(&form, "attempt").is_some_and(|attempt| attempt.len() == 32));
    let review = browser.submit("/keys/new", &FORM).await;
    assert_eq!(review.status, StatusCode::OK);
    for part in ["600/min", "203.0.113.0/24", "/api/v1/contacts", "2027-02-14 08:00 UTC", "nightly"] {
        assert!(text(&review).contains(part), "{part}");
    }
    assert_eq!(
        server.get("/v1/keys").await.expect(StatusCode::OK)["items"],
        json!([]),
        "no key is created yet"
    );

    let made = browser.submit("/keys", &FORM).await;
    assert_eq!(made.status, StatusCode::OK);
    assert_eq!(made.headers[header::CACHE_CONTROL], "no-store");
    let secret = secret_in(&text(&made)).unwrap();
    assert!(secret.starts_with("omf_live_") && secret.len() == 55);
    assert!(
        text(&made).contains(&format!("Bearer {secret}&#39; &quot;$GATEWAY&quot;&#39;/api/v1/contacts&#39;"))
            || text(&made).contains("$GATEWAY")
    );
    let key = only_key(&server).await;
    assert_eq!((&key["name"], &key["scopes"]), (&json!("CI deploy"), &json!(["contacts:read"])));
    assert_eq!(key["rate_limit"], json!({"per_minute": 600, "per_hour": null, "burst": null}));
    assert_eq!(key["ip_allowlist"], json!(["203.0.113.0/24", "2001:db8::1/128"]));
    assert_eq!(key["created_by"], "owner");

    // Submitted again, by a reload or by going back: no key is created, and no secret is shown.
    let again = browser.submit("/keys", &FORM).await;
    assert!(!text(&again).contains(&secret) && text(&again).contains("shown once"));
    server.pass(Duration::from_secs(700));
    let later = browser.submit("/keys", &FORM).await;
    assert!(text(&later).contains("shown once"), "{}", text(&later));
    only_key(&server).await;
    let mut other = FORM;
    other[1].1 = "Another";
    let reused = browser.submit("/keys", &other).await;
    assert_eq!(reused.status, StatusCode::CONFLICT);
    assert_ne!(value_of(&text(&reused), "attempt").unwrap(), "a1");
    only_key(&server).await;
}

#[tokio::test]
async fn errors_are_shown_at_their_field_and_input_is_kept() {
    let server = TestServer::new().await;
    server.key("taken").await;
    let mut browser = owner(&server).await;
    for (field, value, error) in [
        ("name", "a/b", "name"),
        ("name", MARKUP, "name"),
        ("name", "", "name"),
        ("environment", "prod", "environment"),
        ("scopes", "nothing:read", "scopes"),
        ("per_minute", "0", "per_minute"),
        ("per_minute", "many", "per_minute"),
        ("per_minute", "", "per_minute"),
        ("ip_allowlist", "10.0.0.1/8", "ip_allowlist"),
        ("ip_allowlist", MARKUP, "ip_allowlist"),
        ("lifetime", "date", "expires_at"),
    ] {
        let mut form = FORM.to_vec();
        form.iter_mut().find(|(name, _)| *name == field).unwrap().1 = value;
        for path in ["/keys/new", "/keys"] {
            let answer = browser.submit(path, &form).await;
            let page = text(&answer);
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{field}={value}: {page}");
            assert!(!page.contains(MARKUP), "{field}");
            let marked = page
                .split("class=\"error\"")
                .skip(1)
                .find(|part| part.split_once('>').is_some_and(|(_, rest)| !rest.starts_with('<')));
            let marked = marked.unwrap_or_else(|| panic!("{field}={value}: no error in {page}"));
            assert!(
                error == "environment" || marked.contains(&format!("{error}-error")),
                "{field}={value}: {marked}"
            );
            assert!(page.contains("value=\"nightly\""));
            assert!(page.contains("value=\"contacts:read\" checked") || field == "scopes");
        }
        let csrf = browser.csrf().await;
        form.push(("csrf", &csrf));
        let check = browser.send("/keys/check", &form).await.json();
        assert_eq!(check.as_object().unwrap().len(), 1, "{field}={value}: {check}");
        let text = check[error].as_str().unwrap();
        assert!(
            text.ends_with(['.', '?']) && text.starts_with(|letter: char| !letter.is_lowercase()),
            "{text}"
        );
    }
    let mut form = FORM;
    form[1].1 = "taken";
    let taken = browser.submit("/keys/new", &form).await;
    assert_eq!(taken.status, StatusCode::CONFLICT);
    assert!(text(&taken).contains("id=\"name-error\" role=\"alert\">A key named taken already exists"));
    assert_eq!(browser.submit("/keys/check", &FORM).await.json(), json!({}));
}

#[tokio::test]
async fn all_errors_are_reported_at_once() {
    let server = TestServer::new().await;
    let id = server.key("ci").await["key"]["id"].as_str().unwrap().to_owned();
    let mut browser = Browser::signed_in(&server, &server.owner).await;
    let wrong = [
        ("scopes", "nothing:read"),
        ("per_minute", "x"),
        ("per_hour", "1.5"),
        ("burst", "-1"),
        ("ip_allowlist", "10.0.0.1/8"),
        ("lifetime", "date"),
        ("expires_at", "2020-01-01T00:00"),
    ];
    let fields = ["scopes", "per_minute", "per_hour", "burst", "ip_allowlist", "expires_at"];
    let new: Vec<_> =
        [("attempt", "1"), ("name", "ci"), ("environment", "prod")].into_iter().chain(wrong).collect();
    let change: Vec<_> = [("revision", "1")].into_iter().chain(wrong).collect();
    for (path, form, others) in [
        ("/keys/new".to_owned(), &new, &["name", "environment"][..]),
        ("/keys".to_owned(), &new, &["name", "environment"]),
        (format!("/keys/{id}"), &change, &[]),
    ] {
        let answer = browser.submit(&path, form).await;
        assert!(answer.status.is_client_error(), "{path}");
        let page = text(&answer);
        let reported = page.matches("class=\"error\"").count() - page.matches("role=\"alert\"></p>").count();
        assert_eq!(reported, fields.len() + others.len(), "{path}: {page}");
        for field in fields.iter().chain(others) {
            assert_eq!(
                page.matches(&format!("href=\"#{field}-error\"")).count(),
                1,
                "{path}, {field}: {page}"
            );
            assert_eq!(page.matches(&format!("id=\"{field}-error\"")).count(), 1, "{path}, {field}: {page}");
        }
    }
    let reported = browser.submit("/keys/check", &new).await.json();
    let reported: Vec<_> = reported.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected: Vec<_> = fields.into_iter().chain(["name", "environment"]).collect();
    expected.sort_unstable();
    assert_eq!(reported, expected);
    assert_eq!(
        server.get("/v1/keys").await.json()["items"].as_array().unwrap().len(),
        1,
        "no key was created"
    );
}

#[tokio::test]
async fn every_page_of_a_key_escapes_stored_text() {
    let server = TestServer::new().await;
    let body =
        json!({"name": "ci", "environment": "test", "scopes": ["contacts:read"], "description": MARKUP});
    let key = server.post("/v1/keys", body).await.expect(StatusCode::CREATED);
    let id = key["key"]["id"].as_str().unwrap();
    server.post("/v1/keys/ci/rotate", json!({})).await.expect(StatusCode::CREATED);
    let gateway = server.token("gateway").await;
    let uuid = uuid::Uuid::parse_str(id).unwrap();
    let mut call = record(0, START, Some((uuid, "ci")));
    call.path = format!("/{MARKUP}");
    call.method = MARKUP.to_owned();
    call.endpoint = Some(MARKUP.to_owned());
    server.deliver(&gateway, vec![call]).await;
    server.pass(Duration::from_secs(1));
    let version = server.app.publisher.publication.version().unwrap();
    let mut browser = owner(&server).await;
    let detail = browser.page(&format!("/keys/{id}")).await;
    assert!(detail.contains("&#60;script&#62;alert(1)") || detail.contains("&lt;script&gt;alert(1)"));
    for part in
        ["expires in", "900 µs", "OK <strong>1</strong>", "203.0.113.7", "key.rotated", "Edit settings"]
    {
        assert!(detail.contains(part), "{part}");
    }
    for path in [
        "/keys".to_owned(),
        format!("/keys/{id}"),
        "/keys/ci".to_owned(),
        format!("/keys/{id}/rotate"),
        format!("/keys/{id}/revoke"),
        format!("/keys/{id}/versions/1/revoke"),
        format!("/keys/{id}/enforcement/{version}"),
    ] {
        assert!(!browser.page(&path).await.contains(MARKUP), "{path}");
    }
    for path in
        ["/keys/nobody", "/keys/ci/versions/3/revoke", "/keys/ci/versions/x/revoke", "/keys/ci/enforcement/x"]
    {
        assert_eq!(browser.open(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn a_conflicting_change_shows_both_values() {
    let server = TestServer::new().await;
    server.key("ci").await;
    let mut browser = owner(&server).await;
    let form = |revision: &'static str, per_minute: &'static str| {
        [
            ("revision", revision),
            ("scopes", "contacts:write"),
            ("per_minute", per_minute),
            ("lifetime", "never"),
        ]
    };
    let saved = browser.submit("/keys/ci", &form("1", "5")).await;
    assert!(location(&saved).ends_with("?saved"));
    let key = only_key(&server).await;
    assert_eq!((&key["scopes"], &key["rate_limit"]["per_minute"]), (&json!(["contacts:write"]), &json!(5)));
    let stale = browser.submit("/keys/ci", &form("1", "7")).await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    let page = text(&stale);
    assert!(page.contains("<th scope=\"row\">Calls per minute</th><td>5</td><td>7</td>"), "{page}");
    assert!(!page.contains("<th scope=\"row\">Scopes</th>"), "equal values are not listed");
    assert_eq!(value_of(&page, "revision").unwrap(), "2", "sent again, it is meant");
    let wrong = browser.submit("/keys/ci", &form("2", "x")).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(text(&wrong).contains("value=\"x\"") && text(&wrong).contains("<details class=\"edit\" open>"));
    location(&browser.submit("/keys/ci", &form("2", "7")).await);
    assert_eq!(
        browser.submit("/keys/ci", &[("scopes", "contacts:read")]).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
}

#[tokio::test]
async fn rotation_and_revocation_behave_as_in_the_api() {
    let server = TestServer::new().await;
    server.key("ci").await;
    let mut browser = owner(&server).await;
    let form = [("attempt", "r1"), ("revision", "1"), ("overlap", "1h")];
    let rotated = browser.submit("/keys/ci/rotate", &form).await;
    let secret = secret_in(&text(&rotated)).unwrap();
    assert_eq!(only_key(&server).await["versions"][0]["expires_at"], "2027-01-15T09:00:00.000Z");
    let again = browser.submit("/keys/ci/rotate", &form).await;
    assert!(!text(&again).contains(&secret) && text(&again).contains("shown once"));
    let stale =
        browser.submit("/keys/ci/rotate", &[("attempt", "r2"), ("revision", "1"), ("overlap", "0s")]).await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);

    let early = browser.submit("/keys/ci/versions/1/revoke", &[("revision", "2"), ("live", "1")]).await;
    let path = location(&early).to_owned();
    assert!(browser.page(&path).await.contains("No gateways to wait for"));
    assert_eq!(only_key(&server).await["status"], "active");
    let unconfirmed = browser.submit("/keys/ci/revoke", &[("revision", "3"), ("name", "CI")]).await;
    assert!(text(&unconfirmed).contains("The name does not match: type ci to confirm."));
    assert_eq!(only_key(&server).await["status"], "active");
    let revoked = browser.submit("/keys/ci/revoke", &[("revision", "3"), ("name", "ci")]).await;
    browser.page(location(&revoked)).await;
    assert_eq!(only_key(&server).await["status"], "revoked");
    let late =
        browser.submit("/keys/ci/rotate", &[("attempt", "r3"), ("revision", "4"), ("overlap", "0s")]).await;
    assert_eq!(late.status, StatusCode::CONFLICT);
    assert!(!browser.page("/keys/ci").await.contains("Edit settings"), "a revoked key stays as it is");
}

#[tokio::test]
async fn enforcement_is_updated_live() {
    let server = TestServer::new().await;
    server.key("ci").await;
    let gateway = server.token("gateway").await;
    let report = async |version: u64| {
        let body = json!({"gateway": "edge", "incarnation": "000000000000000a", "installation": server.app.publisher.installation.id,
            "vms": [{"id": "0000000000000001", "version": version}]});
        let call = omniflow_test_server::request(
            axum::http::Method::POST,
            "/gateway/v1/enforced",
            &gateway,
            Some(body),
        );
        assert_eq!(server.call(call).await.status, StatusCode::NO_CONTENT);
    };
    report(server.app.publisher.publication.version().unwrap()).await;
    let mut browser = owner(&server).await;
    let revoked =
        browser.submit("/keys/ci/revoke", &[("revision", "1"), ("name", "ci"), ("live", "1")]).await;
    let path = location(&revoked).to_owned();
    let page = browser.page(&path).await;
    assert!(
        page.contains("0 of 1 gateway") && page.contains(&format!("data-live=\"{path}/live\"")),
        "{page}"
    );
    let version = server.app.publisher.publication.version().unwrap();
    let live_path = format!("{path}/live");
    let (live, ()) = tokio::join!(browser.open(&live_path), async {
        tokio::task::yield_now().await;
        report(version).await;
    });
    assert_eq!(live.headers[header::CONTENT_TYPE], "text/event-stream");
    let events = text(&live);
    assert!(events.contains("1 of 1 gateway, ") && events.ends_with("event: end\ndata:\n\n"), "{events}");
    assert!(browser.page(&path).await.contains("1 of 1 gateway, "), "the time is known later too");
}

#[tokio::test]
async fn a_secret_can_be_downloaded_as_a_file() {
    let server = TestServer::new().await;
    let secret = server.key("ci").await["secret"].as_str().unwrap().to_owned();
    let mut browser = owner(&server).await;
    for (kind, file, part) in [
        ("env", "crm-sync.env", format!("CRM_SYNC_API_KEY={secret}\n")),
        ("json", "crm-sync.json", format!("\"api_key\": \"{secret}\"")),
        ("kubernetes", "crm-sync.secret.json", "\"kind\": \"Secret\"".to_owned()),
    ] {
        let form = [("secret", secret.as_str()), ("name", "crm sync"), ("as", kind)];
        let answer = browser.submit("/keys/secret-file", &form).await;
        assert_eq!(answer.headers[header::CONTENT_DISPOSITION], format!("attachment; filename=\"{file}\""));
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
        assert!(text(&answer).contains(&part), "{kind}");
    }
    for (secret, name, kind) in
        [("omf_live_x", "a", "env"), (secret.as_str(), "a/b", "env"), (secret.as_str(), "a", "exe")]
    {
        let answer =
            browser.submit("/keys/secret-file", &[("secret", secret), ("name", name), ("as", kind)]).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
}

#[tokio::test]
async fn the_example_call_uses_the_configured_gateway_url() {
    let server = TestServer::new().await;
    let server = server
        .restart_with(|settings| settings.gateway_url = Some("https://api.example.com".to_owned()))
        .await;
    let mut browser = owner(&server).await;
    let made = text(&browser.submit("/keys", &FORM).await);
    assert!(made.contains("https://api.example.com") && !made.contains("$GATEWAY"), "{made}");
}

#[tokio::test]
async fn the_list_filters_and_pages_as_the_api_does() {
    let server = TestServer::new().await;
    let mut browser = owner(&server).await;
    assert!(browser.page("/keys").await.contains("No keys yet"));
    for number in 0..51 {
        server.key(&format!("key{number}")).await;
        server.pass(Duration::from_millis(1));
    }
    server.post("/v1/keys/key7/revoke", json!({})).await.expect(StatusCode::OK);
    let first = browser.page("/keys").await;
    let next = first.split("<a class=\"button\" href=\"").last().unwrap().split('"').next().unwrap();
    let rows = |page: &str| page.matches("<th scope=\"row\">").count();
    let last = browser.page(&next.replace("&#38;", "&")).await;
    assert_eq!((rows(&first), rows(&last)), (50, 1));
    assert!(last.contains(">First page</a>") && !last.contains(">Next page</a>"));
    for (query, expected) in [
        ("status=revoked", 1),
        ("q=key4", 11),
        ("attention=due", 0),
        ("attention=unused", 50),
        ("environment=test", 0),
        ("scope=contacts:read&status=revoked", 1),
    ] {
        assert_eq!(rows(&browser.page(&format!("/keys?{query}")).await), expected, "{query}");
    }
    for query in ["status=x", "attention=x", "cursor=x", "nothing=x"] {
        assert_eq!(browser.open(&format!("/keys?{query}")).await.status, StatusCode::BAD_REQUEST, "{query}");
    }
}

#[tokio::test]
async fn pages_that_change_keys_do_not_need_statistics() {
    let server = TestServer::new().await;
    let gateway = server.token("gateway").await;
    let id = server.key("ci").await["key"]["id"].as_str().unwrap().to_owned();
    server.deliver(&gateway, vec![record(0, START, Some((id.parse().unwrap(), "ci")))]).await;
    server.pass(Duration::from_secs(1));
    // More than any volume has.
    let server = server.restart_with(|settings| settings.log_limits.reserve_bytes = u64::MAX).await;
    let mut browser = owner(&server).await;
    let page = browser.page(&format!("/keys/{id}")).await;
    assert!(page.contains("statistics are not computed") && page.contains("/revoke"), "{page}");
    assert!(!page.contains("Calls in 30 days"), "{page}");
    let page = browser.page("/audit").await;
    assert!(page.contains("statistics are not computed") && page.contains("/api/v1/contacts"), "{page}");
    browser.page("/keys").await;
}
