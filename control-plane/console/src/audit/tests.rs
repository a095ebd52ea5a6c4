use axum::http::{StatusCode, header};
use http_body_util::BodyExt;
use omniflow_policy::audit::{AuditItem, AuditKey, CallAggregate, CallInProgress};
use omniflow_policy::denial::{Denial, Outcome};
use omniflow_policy::key::Environment;
use omniflow_policy::payload::{CallPayload, PayloadState};
use omniflow_policy::time::UnixMillis;
use tower::ServiceExt;
use uuid::Uuid;

use crate::testing::{Browser, text, value_of};
use omniflow_test_server::{START, TestServer, record};

const MARKUP: &str = "<script>alert(1)</script>";
const MARKUP_AS_TEXT: &str = "&#60;script&#62;alert(1)";

/// A log with a call of every sort: allowed with its arguments, refused, hostile, aggregated; and a gap.
async fn start_server() -> (TestServer, String) {
    let server = TestServer::new().await;
    let gateway = server.token("gateway").await;
    let key = Uuid::from_u128(7);
    let payload = CallPayload {
        query: b"page=2".to_vec(),
        body: format!("{{\"name\": \"{MARKUP}\"}}").into_bytes(),
        state: PayloadState::Whole,
        media_type: "application/json".to_owned(),
        content_encoding: String::new(),
    };
    let mut refused = record(1, START + 60_000, Some((key, "ci")));
    refused.outcome = Outcome::Denied(Denial::InsufficientScope);
    refused.status = 403;
    refused.method = "POST".to_owned();
    let mut hostile = record(2, START + 120_000, None);
    hostile.path = format!("/{MARKUP}");
    hostile.method = MARKUP.to_owned();
    hostile.request_id = MARKUP.to_owned();
    hostile.endpoint = None;
    hostile.status = 404;
    hostile.outcome = Outcome::Denied(Denial::RouteNotMapped);
    hostile.source_ip = Some("2001:db8::7".parse().unwrap());
    let of_strangers = CallAggregate {
        sequence: 3,
        key: None,
        source_ip: Some("198.51.100.9".parse().unwrap()),
        outcome: Outcome::Denied(Denial::UnknownKey),
        status: 401,
        calls: 1_204,
        first_time: UnixMillis(START + 130_000),
        last_time: UnixMillis(START + 140_000),
    };
    let of_key = CallAggregate {
        sequence: 1_207,
        key: Some(AuditKey { id: key, name: "ci".to_owned(), version: 1, environment: Environment::Live }),
        source_ip: None,
        outcome: Outcome::Denied(Denial::RateLimited),
        status: 429,
        calls: 30,
        ..of_strangers
    };
    let items = vec![
        AuditItem::CallWithPayload(record(0, START, Some((key, "ci"))), payload),
        AuditItem::Call(refused),
        AuditItem::Call(hostile),
        AuditItem::Aggregated(of_strangers),
        AuditItem::Aggregated(of_key),
        // Five numbers never arrive.
        AuditItem::Call(record(1_242, START + 180_000, Some((key, "ci")))),
    ];
    server.deliver_items(&gateway, items).await;
    server.pass(std::time::Duration::from_secs(600));
    (server, gateway)
}

#[tokio::test]
async fn the_list_shows_calls_in_progress() {
    let (server, gateway) = start_server().await;
    let mut open = record(1_243, START + 200_000, Some((Uuid::from_u128(7), "ci")));
    open.path = format!("/{MARKUP}");
    let begun = CallInProgress { number: 0, record: open };
    server.deliver_items(&gateway, vec![AuditItem::InProgress(begun)]).await;
    let mut browser = Browser::signed_in(&server, &server.owner).await;
    for (path, is_listed) in [
        ("/audit", true),
        ("/audit?key=ci", true),
        ("/audit?key=nobody", false),
        ("/audit?status=200", false),
    ] {
        let page = browser.page(path).await;
        assert_eq!(page.contains("<h2 id=\"in-progress\">In progress</h2>"), is_listed, "{path}");
        assert_eq!(page.contains(&format!("<code>GET /{MARKUP_AS_TEXT}")), is_listed, "{path}");
        assert!(!page.contains(MARKUP), "{path}");
    }
}

#[tokio::test]
async fn the_list_shows_calls_aggregated_calls_and_gaps_with_links_to_narrower_searches() {
    let (server, _) = start_server().await;
    let mut browser = Browser::signed_in(&server, &server.owner).await;
    let page = browser.page("/audit").await;
    for part in [
        "<h2>1,238 calls</h2>",
        "1,204 calls",
        "30 calls",
        "5 calls are missing here",
        "the cause is unknown",
        "href=\"/audit?endpoint=%2Fapi%2Fv1%2Fcontacts\"",
        "href=\"/audit?ip=198.51.100.9\"",
        "href=\"/audit?status=403\"",
        "href=\"/keys/00000000-0000-0000-0000-000000000007\"",
        "href=\"/audit/export?format=csv\"",
        "Keys by calls",
        "aria-label=\"Latency over time\"",
        "<summary>Show as table</summary>",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains(MARKUP) && page.contains(MARKUP_AS_TEXT));
    let calls = |page: &str| page.matches("<th scope=\"row\"><a href=\"/audit/").count();
    assert_eq!(calls(&page), 6);
    for (query, expected) in [
        ("key=ci", 4),
        ("key=00000000-0000-0000-0000-000000000007&method=POST", 1),
        ("environment=test", 0),
        ("endpoint=/api/v1/contacts&status=200", 2),
        ("status=4xx", 4),
        ("decision=denied&reason=unknown_key", 1),
        ("ip=2001:db8::/32", 1),
        ("from=2027-01-15T08:01&to=2027-01-15T08:02:00", 1),
        ("key=nobody", 0),
    ] {
        let page = browser.page(&format!("/audit?{query}")).await;
        assert_eq!(calls(&page), expected, "{query}");
        assert_eq!(page.contains("No calls match your filters"), expected == 0, "{query}");
    }
    let narrow = browser.page("/audit?key=ci&status=403").await;
    assert!(narrow.contains("href=\"/audit?status=403\" title=\"Remove this filter\""), "{narrow}");
    assert!(narrow.contains("href=\"/audit/export?key=ci&#38;status=403&#38;format=ndjson\""), "{narrow}");
    let all = browser.page("/audit?count=all").await;
    assert!(all.contains("<h2>1,238 calls</h2>"));
}

#[tokio::test]
async fn each_gap_is_on_one_page_of_the_list() {
    let server = TestServer::new().await;
    let gateway = server.token("gateway").await;
    // Before each tenth call, some calls are missing, more each time. A search excludes these tenth calls, so that the
    // gaps end between the listed calls. The first page ends next to a gap.
    let mut sequence = 0;
    let mut missing = Vec::new();
    let records = (0..120).map(|n| {
        if n % 10 == 0 && n > 0 {
            missing.push(n / 10 + 1);
            sequence += n / 10 + 1;
        }
        let mut record = record(sequence, START + n, None);
        record.status = if n % 10 == 0 { 404 } else { 200 };
        sequence += 1;
        record
    });
    let records: Vec<_> = records.collect();
    server.deliver(&gateway, records).await;
    server.pass(std::time::Duration::from_secs(600));
    let mut browser = Browser::signed_in(&server, &server.owner).await;
    for query in ["", "?status=200", "?status=404", "?method=PUT"] {
        let mut path = format!("/audit{query}");
        let mut shown = Vec::new();
        loop {
            let page = browser.page(&path).await;
            let parts: Vec<&str> = page.split(" calls are missing here").collect();
            let (_, before_gaps) = parts.split_last().unwrap();
            shown.extend(before_gaps.iter().map(|part| {
                let number = part.rsplit('>').next().unwrap();
                number.parse::<u64>().unwrap_or_else(|_| panic!("{number:?} is no number of calls"))
            }));
            let Some((before, _)) = page.split_once("\" rel=\"next\">") else { break };
            path = before.rsplit_once("href=\"").unwrap().1.replace("&#38;", "&");
        }
        let expected: Vec<u64> = missing.iter().rev().copied().collect();
        assert_eq!(shown, expected, "{query}");
    }
}

#[tokio::test]
async fn pages_of_the_list_follow_one_another() {
    let server = TestServer::new().await;
    let gateway = server.token("gateway").await;
    server.deliver(&gateway, (0..120).map(|n| record(n, START + n, None)).collect()).await;
    let mut browser = Browser::signed_in(&server, &server.owner).await;
    let mut path = "/audit?status=200".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = browser.page(&path).await;
        let ids = page.split("<th scope=\"row\"><a href=\"/audit/").skip(1);
        seen.extend(ids.map(|part| part.split('"').next().unwrap().parse::<u64>().unwrap()));
        let Some((before, _)) = page.split_once("\" rel=\"next\">") else { break };
        path = before.rsplit_once("href=\"").unwrap().1.replace("&#38;", "&");
    }
    assert_eq!(seen, (1..=120).rev().collect::<Vec<u64>>());
}

#[tokio::test]
async fn an_invalid_search_keeps_its_input_and_shows_the_error_at_its_field() {
    let (server, _) = start_server().await;
    let mut browser = Browser::signed_in(&server, &server.owner).await;
    for (query, field) in
        [("ip=203.0.113&key=ci", "ip"), ("status=x&key=ci", "status"), ("from=now&key=ci", "from")]
    {
        let answer = browser.open(&format!("/audit?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        let page = text(&answer);
        assert!(page.contains(&format!("id=\"e-{field}\" role=\"alert\">")), "{query}: {page}");
        assert!(page.contains("name=\"key\" value=\"ci\""), "{query}");
    }
    let answer = browser.open("/audit?cursor=x").await;
    assert!(text(&answer).contains("class=\"note bad\" role=\"alert\">Cursor must be"), "{}", text(&answer));
    assert_eq!(browser.open("/audit?colour=red").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(browser.open("/audit/export?ip=x").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_record_is_shown_in_full_and_auditors_view_its_payload_separately() {
    let (server, _) = start_server().await;
    let auditor = server.token("auditor").await;
    let mut owner = Browser::signed_in(&server, &server.owner).await;
    let page = owner.page("/audit/1").await;
    for part in [
        "request-0",
        "900 µs",
        "203.0.113.7",
        "sign in with a token that has the auditor role",
        "/policy/explain?key=",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("page=2"));
    assert_eq!(owner.submit("/audit/1/payload", &[]).await.status, StatusCode::FORBIDDEN);
    let hostile = owner.page("/audit/3").await;
    assert!(!hostile.contains(MARKUP) && hostile.matches(MARKUP_AS_TEXT).count() >= 3, "{hostile}");
    assert!(owner.page("/audit/5").await.contains("This record aggregates 1,204 calls without a known key"));
    assert!(owner.page("/audit/2").await.contains("neither a query string nor a body"));
    assert_eq!(owner.open("/audit/99").await.status, StatusCode::NOT_FOUND);

    let mut browser = Browser::signed_in(&server, &auditor).await;
    let page = browser.page("/audit/1").await;
    assert!(page.contains("View payload (recorded)") && !page.contains("page=2"), "{page}");
    let events = "/v1/admin-log?action=payload.read";
    assert_eq!(
        server.get(events).await.json()["items"].as_array().unwrap().len(),
        0,
        "looking is not reading"
    );
    let answer = text(&browser.submit("/audit/1/payload", &[]).await);
    assert!(answer.contains("<code>page=2</code>") && answer.contains(MARKUP_AS_TEXT), "{answer}");
    assert!(!answer.contains(MARKUP));
    assert_eq!(server.get(events).await.json()["items"][0]["principal"]["name"], "the auditor");
    let none = browser.submit("/audit/2/payload", &[]).await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
    assert!(value_of(&page, "csrf").is_some());
}

#[tokio::test]
async fn an_export_equals_the_file_of_the_api() {
    let (server, _) = start_server().await;
    let mut browser = Browser::signed_in(&server, &server.owner).await;
    for (path, disposition) in [
        ("/audit/export?key=ci&format=csv", "attachment; filename=\"audit.csv\""),
        ("/audit/export?key=ci&format=ndjson", "attachment; filename=\"audit.ndjson\""),
    ] {
        let answer = browser.open(path).await;
        assert_eq!(answer.headers[header::CONTENT_DISPOSITION], disposition);
        assert_eq!(answer.body, server.get(&path.replace("/audit", "/v1/audit")).await.body, "{path}");
    }
    // The form's field has no zone; it is in UTC, as on the page.
    let since = browser.open("/audit/export?from=2027-01-15T08:03").await;
    let expected = server.get("/v1/audit/export?from=2027-01-15T08:03:00Z").await;
    assert_eq!((since.status, since.body), (StatusCode::OK, expected.body));
}

#[tokio::test]
async fn new_calls_arrive_as_rows() {
    let (server, gateway) = start_server().await;
    let browser = Browser::signed_in(&server, &server.owner).await;
    let cookies: Vec<String> =
        browser.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let request = axum::http::Request::get("/audit/live?after=6&status=404")
        .header(header::COOKIE, cookies.join("; "))
        .body(axum::body::Body::empty())
        .unwrap();
    let response = server.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut body = response.into_body();
    let mut read = async || {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        String::from_utf8(frame.to_vec()).unwrap()
    };
    assert!(read().await.starts_with("id: 6\n\n"));
    let mut call = record(1_243, START, None);
    call.status = 404;
    call.path = format!("/{MARKUP}");
    server.deliver(&gateway, vec![call, record(1_244, START, None)]).await;
    let event = read().await;
    assert!(event.starts_with("id: 7\ndata: <tr>") && event.ends_with("</tr>\n\n"), "{event}");
    assert!(event.lines().skip(1).all(|line| line.is_empty() || line.starts_with("data: ")), "{event}");
    assert!(event.contains(MARKUP_AS_TEXT) && !event.contains(MARKUP), "{event}");
}
