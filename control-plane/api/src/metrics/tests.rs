use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use omniflow_test_server::{Answer, START, TestServer, record, request, send};
use serde_json::{Value, json};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

async fn scrape(server: &TestServer, accept: &str) -> Answer {
    let request = Request::get("/metrics").header(header::ACCEPT, accept).body(Body::empty()).unwrap();
    server.call(request).await
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}

fn poll(server: &TestServer, version: u64, wait_ms: u64) -> Value {
    json!({
        "gateway": "edge", "incarnation": "000000000000000a", "filter_version": "0.1.0", "snapshot_format": 1,
        "installation": server.app.publisher.installation.id, "version": version, "wait_ms": wait_ms,
        "clock": START, "vms": [{"id": "0000000000000001", "version": version}],
    })
}

#[tokio::test]
async fn format_follows_the_accept_header() {
    let server = TestServer::new().await;
    // The header that Prometheus 3 sends.
    let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                      text/plain;version=0.0.4;q=0.4,*/*;q=0.3";
    let answer = scrape(&server, prometheus).await;
    assert_eq!(answer.headers[header::CONTENT_TYPE], OPENMETRICS);
    let openmetrics = text(&answer);
    assert!(openmetrics.ends_with("\n# EOF\n"), "{openmetrics}");
    assert_eq!(openmetrics.matches("# EOF").count(), 1);
    assert!(openmetrics.contains("\n# TYPE omf_audit_records counter\nomf_audit_records_total 0\n"));
    assert!(openmetrics.contains("# UNIT omf_store_operation_duration_seconds seconds\n"), "{openmetrics}");
    for accept in ["*/*", "text/plain", "application/openmetrics"] {
        let answer = scrape(&server, accept).await;
        assert_eq!(answer.headers[header::CONTENT_TYPE], PROMETHEUS, "{accept}");
        let text = text(&answer);
        assert!(
            text.contains("\n# TYPE omf_audit_records_total counter\nomf_audit_records_total 0\n"),
            "{text}"
        );
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    }
}

#[tokio::test]
async fn every_metric_has_one_help_one_type_and_samples() {
    let server = TestServer::new().await;
    let text = server.metrics().await;
    let lines: Vec<&str> = text.lines().collect();
    let names = lines.iter().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    for name in names {
        let described = |line: &&&str| line.starts_with(&format!("# HELP {name} "));
        let help: Vec<_> = lines.iter().filter(described).collect();
        assert_eq!(help.len(), 1, "{name}");
        assert!(help[0].ends_with('.') && !help[0].ends_with(".."), "{}", help[0]);
        // The first request is this one, which is recorded when its response is sent.
        let has_samples = lines.iter().any(|line| line.starts_with(name));
        assert!(has_samples || name == "omf_http_request_duration_seconds", "{name}");
    }
}

#[tokio::test]
async fn batches_are_measured_in_buckets() {
    let server = TestServer::new().await;
    let token = server.token("gateway").await;
    server.deliver(&token, (0..3).map(|n| record(n, START, None)).collect()).await;
    server.deliver_items(&token, Vec::new()).await;
    let refused = server.deliver_bytes(&token, b"no batch".to_vec()).await;
    assert_eq!(refused.problem().1, "invalid_batch");
    let text = server.metrics().await;
    for line in [
        "# TYPE omf_audit_batch_records histogram",
        "omf_audit_batch_records_bucket{le=\"0\"} 1",
        "omf_audit_batch_records_bucket{le=\"1\"} 1",
        "omf_audit_batch_records_bucket{le=\"10\"} 2",
        "omf_audit_batch_records_bucket{le=\"+Inf\"} 2",
        "omf_audit_batch_records_sum 3.0",
        "omf_audit_batch_records_count 2",
        "omf_audit_batch_bytes_count 2",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} in {text}");
    }
    let ingested = server.metric("omf_store_operation_duration_seconds_count{operation=\"ingest\"}").await;
    assert_eq!(ingested, Some(2.0));
}

#[tokio::test]
async fn store_operations_are_counted_by_kind() {
    let server = TestServer::new().await;
    let count = async |operation: &str| {
        let series = format!("omf_store_operation_duration_seconds_count{{operation=\"{operation}\"}}");
        server.metric(&series).await.unwrap()
    };
    let (changes, reads) = (count("admin_transaction").await, count("read").await);
    server.key("ci").await;
    assert_eq!(count("admin_transaction").await, changes + 1.0);
    assert!(count("read").await > reads);
}

#[tokio::test]
async fn delay_of_waiting_polls_is_measured() {
    const COUNT: &str = "omf_gateway_poll_delay_seconds_count";
    let server = TestServer::new().await;
    let token = server.token("gateway").await;
    let held = server.app.publisher.publication.version().unwrap();
    let call = request(Method::POST, "/gateway/v1/poll", &token, Some(poll(&server, held, 25_000)));
    let waiting = tokio::spawn(send(server.router.clone(), call));
    server.until_connected(&waiting).await;
    assert_eq!(server.metric(COUNT).await, Some(0.0));
    server.key("ci").await;
    assert_eq!(waiting.await.unwrap().status, StatusCode::OK);
    assert_eq!(server.metric(COUNT).await, Some(1.0));
    let sum = server.metric("omf_gateway_poll_delay_seconds_sum").await.unwrap();
    assert!(sum > 0.0 && sum < 20.0, "{sum}: less than the poll has waited");
    let call = request(Method::POST, "/gateway/v1/poll", &token, Some(poll(&server, held, 25_000)));
    assert_eq!(server.call(call).await.status, StatusCode::OK);
    assert_eq!(server.metric(COUNT).await, Some(1.0), "a poll that came later has not waited");
}

#[tokio::test]
async fn delay_of_enforcement_ends_with_the_confirmation() {
    const COUNT: &str = "omf_enforcement_delay_seconds_count";
    let server = TestServer::new().await;
    let token = server.token("gateway").await;
    let publication = &server.app.publisher.publication;
    let confirm = async |path: &str, versions: &[u64]| {
        let vms: Vec<Value> = (1..)
            .zip(versions)
            .map(|(id, version)| json!({"id": format!("{id:016x}"), "version": version}))
            .collect();
        let mut body = poll(&server, publication.version().unwrap(), 0);
        body["vms"] = json!(vms);
        if path.ends_with("enforced") {
            for field in ["filter_version", "snapshot_format", "version", "wait_ms", "clock"] {
                body.as_object_mut().unwrap().remove(field);
            }
        }
        let answer = server.call(request(Method::POST, path, &token, Some(body))).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{answer:?}");
        server.metric(COUNT).await.unwrap()
    };
    server.key("zero").await;
    let first = publication.version().unwrap();
    assert_eq!(
        confirm("/gateway/v1/poll", &[first, first]).await,
        0.0,
        "a gateway that starts enforces no change"
    );
    server.key("one").await;
    server.key("two").await;
    let second = publication.version().unwrap();
    assert_eq!(confirm("/gateway/v1/enforced", &[second, first]).await, 0.0, "one of two VMs");
    assert_eq!(confirm("/gateway/v1/enforced", &[second, second]).await, 1.0);
    assert_eq!(confirm("/gateway/v1/poll", &[second, second]).await, 1.0, "it is confirmed already");
    server.key("three").await;
    let third = publication.version().unwrap();
    assert_eq!(confirm("/gateway/v1/poll", &[third, third]).await, 2.0, "a poll confirms as well");
}
