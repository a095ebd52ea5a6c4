use axum::http::StatusCode;
use omniflow_policy::policy::PolicyDocument;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::testing::{Browser, text, value_of};
use omniflow_test_server::{Answer, START, TestServer, record};

fn document() -> Value {
    serde_json::to_value(PolicyDocument::default()).unwrap()
}

/// The document without the routes of a scope.
fn closed(scope: &str) -> String {
    let mut document = document();
    document["routes"].as_array_mut().unwrap().retain(|one| one["scope"] != scope);
    serde_json::to_string_pretty(&document).unwrap()
}

async fn compared(browser: &mut Browser<'_>, draft: &str) -> (String, Vec<(String, String)>) {
    let answer = browser.submit("/policy/draft", &[("text", draft), ("do", "compare")]).await;
    let page = text(&answer);
    let field = |name: &str| (name.to_owned(), value_of(&page, name).unwrap_or_default());
    let fields = vec![field("base"), field("seen"), ("text".to_owned(), draft.to_owned())];
    (page, fields)
}

async fn publish(browser: &mut Browser<'_>, fields: &[(String, String)]) -> Answer {
    let fields: Vec<(&str, &str)> = fields.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    browser.submit("/policy/publish", &fields).await
}

#[tokio::test]
async fn the_effective_policy_is_shown_as_a_table_and_as_the_document() {
    let server = TestServer::new().await;
    let mut document = document();
    document["scopes"][0]["description"] = json!("<script>alert(1)</script>");
    server.put("/v1/policy", document).await.expect(StatusCode::OK);
    let mut browser = Browser::signed_in(&server, &server.owner).await;
    let page = browser.page("/policy").await;
    for part in [
        "Version 2, published",
        "/api/v1/contacts/{id}",
        "href=\"/keys?scope=contacts%3Aread\"",
        "Edit policy",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("<script>alert") && page.contains("&#60;script&#62;alert(1)"), "{page}");
    let written = browser.page("/policy/document").await;
    assert!(written.contains("&#34;contacts:read&#34;") && !written.contains("<script>alert"));
    let version = browser.page("/policy/versions/2").await;
    assert!(
        version.contains("0 added, 0 removed, 1 changed") && !version.contains("<script>alert"),
        "{version}"
    );
}

#[tokio::test]
async fn a_request_is_explained_step_by_step() {
    let server = TestServer::new().await;
    server.key("ci").await;
    let mut browser = Browser::signed_in(&server, &server.owner).await;
    let blank = browser.page("/policy/explain").await;
    assert!(!blank.contains("class=\"steps\""));
    let page =
        browser.page("/policy/explain?key=ci&method=get&path=/api/v1/contacts?limit=5&calls_before=").await;
    assert!(page.contains("allowed</span>") && page.matches("passed</span>").count() >= 5, "{page}");
    let page = browser.page("/policy/explain?key=ci&path=/api/v1/tickets&source_ip=203.0.113.7").await;
    assert!(page.contains("refused</span> 403 <code>insufficient_scope</code>"), "{page}");
    for (query, field) in [
        ("key=nobody&path=/x", "key"),
        ("key=ci&path=/x&source_ip=x", "source_ip"),
        ("key=ci&path=/x&version=x", "version"),
        ("key=ci&path=/x&calls_before=-1", "calls_before"),
    ] {
        let answer = browser.open(&format!("/policy/explain?{query}")).await;
        assert!(answer.status.is_client_error(), "{query}");
        assert!(
            text(&answer).contains(&format!("id=\"e-{field}\" role=\"alert\"")),
            "{query}: {}",
            text(&answer)
        );
    }
}

#[tokio::test]
async fn a_draft_is_compared_tested_published_and_rolled_back() {
    let server = TestServer::new().await;
    let (gateway, created) = (server.token("gateway").await, server.key("ci").await);
    let id: Uuid = created["key"]["id"].as_str().unwrap().parse().unwrap();
    server.deliver(&gateway, (0..37).map(|n| record(n, START + n, Some((id, "ci")))).collect()).await;
    let mut browser = Browser::signed_in(&server, &server.owner).await;
    let begun = browser.page("/policy/draft").await;
    assert!(
        begun.contains("&#34;contacts:read&#34;") && !begun.contains("formaction"),
        "nothing to publish yet"
    );

    let draft = closed("contacts:read");
    let (page, fields) = compared(&mut browser, &draft).await;
    assert!(page.contains("0 added, 3 removed") && page.contains("formaction=\"/policy/publish\""), "{page}");
    let replayed =
        browser.submit("/policy/draft", &[("text", &draft), ("do", "replay"), ("span", "all")]).await;
    let replayed = text(&replayed);
    assert!(replayed.contains("37 calls with 1 key would be refused"), "{replayed}");
    assert!(
        replayed.contains("<code>allowed</code>") && replayed.contains("route_not_mapped</span>"),
        "{replayed}"
    );
    assert!(replayed.contains("value=\"all\" selected"));

    // A different text from the one whose differences were shown.
    let mut other = fields.clone();
    other[2].1 = draft.replace("Read contacts", "See contacts");
    let page = text(&publish(&mut browser, &other).await);
    assert!(page.contains("The draft was edited after the review"), "{page}");
    assert_eq!(server.get("/v1/policy").await.json()["version"], 1);

    let page = text(&publish(&mut browser, &fields).await);
    assert!(page.contains("Version 2 published") && page.contains("No gateways to wait for"), "{page}");
    let page = text(&publish(&mut browser, &fields).await);
    assert!(page.contains("Nothing to publish"), "sent again: {page}");
    assert_eq!(server.get("/v1/policy").await.json()["version"], 2);

    let page = browser.page("/policy/versions/1").await;
    assert!(page.contains("Changes made by a rollback from version 2") && page.contains("3 added"), "{page}");
    let base = value_of(&page, "base").unwrap();
    let answer = browser.submit("/policy/versions/1/roll-back", &[("base", "1")]).await;
    assert_eq!(answer.status, StatusCode::PRECONDITION_FAILED, "of another version than was shown");
    let page = text(&browser.submit("/policy/versions/1/roll-back", &[("base", &base)]).await);
    assert!(page.contains("Version 3 published"), "{page}");
    assert_eq!(server.get("/v1/policy").await.json()["document"], document());
    let list = browser.page("/policy/versions").await;
    assert_eq!(list.matches("href=\"/policy/versions/").count(), 3);
}

#[tokio::test]
async fn errors_are_shown_at_their_line_and_input_is_kept() {
    let server = TestServer::new().await;
    let mut browser = Browser::signed_in(&server, &server.owner).await;
    let draft = serde_json::to_string_pretty(&document()).unwrap();
    let broken = draft.replacen("\"scopes\": [", "\"scopes\": [ <b>,", 1);
    let line = broken.lines().position(|line| line.contains("<b>")).unwrap() + 1;
    let answer = browser.submit("/policy/draft", &[("text", &broken), ("do", "compare")]).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let page = text(&answer);
    let named = format!("<strong>Line {line}</strong>");
    assert!(page.contains(&named) && page.contains(&format!("data-line=\"{line}\"")), "{page}");
    assert!(
        page.contains(&format!("<mark>{line}  ")) && page.contains("&#60;b&#62;,") && !page.contains("<b>,"),
        "{page}"
    );

    let unknown = draft.replacen("\"scope\": \"contacts:read\"", "\"scope\": \"contacts:none\"", 1);
    let line = unknown.lines().position(|line| line.contains("contacts:none")).unwrap() + 1;
    for path in ["/policy/draft", "/policy/publish"] {
        let sent = unknown.replace('\n', "\r\n");
        let answer = browser.submit(path, &[("text", sent.as_str()), ("do", "replay")]).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}");
        let page = text(&answer);
        assert!(page.contains(&format!("<strong>Line {line}</strong>")), "{path}: {page}");
        assert!(page.contains("contacts:none&#34;") && page.contains("/scope</code>"), "{path}");
    }
}

#[tokio::test]
async fn a_concurrent_publication_is_not_overwritten() {
    let server = TestServer::new().await;
    let mut browser = Browser::signed_in(&server, &server.owner).await;
    let (_, fields) = compared(&mut browser, &closed("contacts:read")).await;
    let others: Value = serde_json::from_str(&closed("tickets:read")).unwrap();
    server.put("/v1/policy", others.clone()).await.expect(StatusCode::OK);
    let answer = publish(&mut browser, &fields).await;
    assert_eq!(answer.status, StatusCode::PRECONDITION_FAILED);
    let page = text(&answer);
    assert!(
        page.contains("Version 2 was published since") && page.contains("name=\"base\" value=\"2\""),
        "{page}"
    );
    assert_eq!(server.get("/v1/policy").await.json()["document"], others);
}

#[tokio::test]
async fn blocked_drafts_are_reported_and_auditors_cannot_publish() {
    let server = TestServer::new().await;
    server.key("ci").await;
    let auditor = server.token("auditor").await;
    let mut browser = Browser::signed_in(&server, &server.owner).await;
    let mut without = serde_json::from_str::<Value>(&closed("contacts:read")).unwrap();
    without["scopes"].as_array_mut().unwrap().retain(|one| one["name"] != "contacts:read");
    let without = without.to_string();
    let (page, fields) = compared(&mut browser, &without).await;
    assert!(
        page.contains("This change cannot be published yet") && page.contains("contacts:read (ci)"),
        "{page}"
    );
    assert!(!page.contains("formaction"));
    assert_eq!(publish(&mut browser, &fields).await.status, StatusCode::CONFLICT);

    let mut browser = Browser::signed_in(&server, &auditor).await;
    let (page, fields) = compared(&mut browser, &closed("tickets:read")).await;
    assert!(page.contains("removed") && !page.contains("formaction"), "{page}");
    assert_eq!(publish(&mut browser, &fields).await.status, StatusCode::FORBIDDEN);
    assert!(!browser.page("/policy/versions/1").await.contains("roll-back"));
    let refused = browser.submit("/policy/versions/1/roll-back", &[("base", "1")]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
}
