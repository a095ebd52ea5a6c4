use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use omniflow_outbound::otlp::OtlpSettings;
use omniflow_outbound::webhook::WebhookSettings;
use serde_json::json;

use omniflow_golden::{markdown, reference};
use omniflow_test_server::{START, TestServer, request};

const COUNT: &str = "omf_http_request_duration_seconds_count";

/// The series of requests: their labels, with the number of requests.
async fn requests(server: &TestServer) -> Vec<String> {
    let text = server.metrics().await;
    let mut series: Vec<String> =
        text.lines().filter_map(|line| line.strip_prefix(COUNT)).map(str::to_owned).collect();
    series.sort();
    series
}

#[tokio::test]
async fn requests_are_measured_by_route() {
    let server = TestServer::new().await;
    server.key("ci").await;
    for name in ["ci", "unknown", "also-unknown"] {
        server.get(&format!("/v1/keys/{name}")).await;
    }
    // A page of the console.
    server.get("/sign-in").await;
    assert_eq!(
        requests(&server).await,
        [
            "{route=\"/sign-in\",method=\"GET\",status=\"2xx\"} 1",
            "{route=\"/v1/keys\",method=\"POST\",status=\"2xx\"} 1",
            "{route=\"/v1/keys/{id}\",method=\"GET\",status=\"2xx\"} 1",
            "{route=\"/v1/keys/{id}\",method=\"GET\",status=\"4xx\"} 2",
        ]
    );
    let text = server.metrics().await;
    let created = "{route=\"/v1/keys\",method=\"POST\",status=\"2xx\"";
    for line in [
        "# TYPE omf_http_request_duration_seconds histogram".to_owned(),
        format!("omf_http_request_duration_seconds_bucket{},le=\"+Inf\"}} 1", created),
    ] {
        assert!(text.lines().any(|one| one == line), "{line} in {text}");
    }
    let buckets = format!("omf_http_request_duration_seconds_bucket{created}");
    assert_eq!(
        text.lines().filter(|line| line.starts_with(&buckets)).count(),
        super::http::BUCKETS.len() + 1
    );
}

#[tokio::test]
async fn clients_cannot_add_series() {
    let server = TestServer::new().await;
    for n in 0..50 {
        for path in [format!("/{n}"), format!("/v1/{n}/x"), format!("/v1/keys/{n}?wait={n}")] {
            let method = Method::from_bytes(format!("METHOD{n}").as_bytes()).unwrap();
            let odd = Request::builder().method(method).uri(&path).body(Body::empty()).unwrap();
            assert!(!server.call(odd).await.status.is_success());
            assert!(!server.get(&path).await.status.is_success());
            let known = Request::builder().method(Method::PUT).uri(&path).body(Body::empty()).unwrap();
            assert!(!server.call(known).await.status.is_success());
        }
    }
    assert_eq!(
        requests(&server).await,
        [
            "{route=\"/v1/keys/{id}\",method=\"GET\",status=\"4xx\"} 50",
            "{route=\"unmatched\",method=\"GET\",status=\"4xx\"} 100",
            "{route=\"unmatched\",method=\"PUT\",status=\"4xx\"} 100",
            "{route=\"unmatched\",method=\"other\",status=\"4xx\"} 200",
        ]
    );
}

#[tokio::test]
async fn responses_that_are_held_on_purpose_are_not_measured() {
    let server = TestServer::new().await;
    server.key("ci").await;
    let token = server.token("gateway").await;
    let poll = async |token: &str| {
        let body = json!({
            "gateway": "edge", "incarnation": "000000000000000a", "filter_version": "0.1.0", "snapshot_format": 1,
            "installation": server.app.publisher.installation.id, "wait_ms": 0, "clock": START, "vms": [],
            "version": server.app.publisher.publication.version().unwrap(),
        });
        server.call(request(Method::POST, "/gateway/v1/poll", token, Some(body))).await.status
    };
    assert_eq!(poll(&token).await, StatusCode::NO_CONTENT);
    assert_eq!(poll("omf_token_x").await, StatusCode::UNAUTHORIZED);
    let revoke =
        async |query: &str| server.post(&format!("/v1/keys/ci/revoke{query}"), json!({})).await.status;
    assert_eq!(revoke("?wait=1s").await, StatusCode::OK);
    assert_eq!(revoke("?wait=soon").await, StatusCode::BAD_REQUEST);
    assert_eq!(revoke("").await, StatusCode::OK);
    let series = requests(&server).await;
    let of = |route: &str| -> Vec<&str> {
        series
            .iter()
            .filter_map(|line| line.strip_prefix(&format!("{{route=\"{route}\",method=\"POST\",")))
            .collect()
    };
    assert_eq!(of("/gateway/v1/poll"), ["status=\"4xx\"} 1"]);
    assert_eq!(of("/v1/keys/{id}/revoke"), ["status=\"2xx\"} 1", "status=\"4xx\"} 1"]);
}

/// The metrics of a scrape: name, type, labels and help.
fn described(text: &str) -> Vec<Vec<String>> {
    let of =
        |line: &str| line.split_once(' ').map(|(name, rest)| (name.to_owned(), rest.to_owned())).unwrap();
    let helps: BTreeMap<String, String> =
        text.lines().filter_map(|line| line.strip_prefix("# HELP ")).map(of).collect();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(of);
    let row = |(name, kind): (String, String)| {
        let sample = text.lines().find(|line| {
            let rest = line.strip_prefix(&name).unwrap_or_default();
            ["{", "_bucket{", " ", "_bucket "].iter().any(|start| rest.starts_with(start))
        });
        let labels =
            sample.and_then(|line| line.split_once('{')?.1.split_once('}')).map_or("", |(labels, _)| labels);
        let names = labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name);
        let names: Vec<String> = names.filter(|name| *name != "le").map(|name| format!("`{name}`")).collect();
        let help = helps[&name].trim_end_matches('.').to_owned();
        vec![format!("`{name}`"), kind, names.join(", "), help]
    };
    types.map(row).collect()
}

#[tokio::test]
async fn reference_lists_every_metric() {
    let server = TestServer::new().await;
    let secret_file = server.folder().join("webhook-secret");
    fs::write(&secret_file, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDhoQFrQsZvKY=").unwrap();
    fs::set_permissions(&secret_file, Permissions::from_mode(0o600)).unwrap();
    let server = server
        .restart_with(|settings| {
            settings.webhook =
                Some(WebhookSettings { url: "http://127.0.0.1:9/".parse().unwrap(), secret_file });
            let endpoint = "http://127.0.0.1:9/v1/logs".parse().unwrap();
            settings.otlp = Some(OtlpSettings { endpoint, headers_file: None, ca_file: None });
        })
        .await;
    // The request that is counted.
    server.get("/v1/keys").await;
    let mut rows = described(&server.metrics().await);
    rows.sort();
    let table = markdown::table(&["metric", "type", "labels", "meaning"], &rows);
    reference::check("metrics.md", &[("control plane".to_owned(), table)]);
}
