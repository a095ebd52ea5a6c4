//! The export to an OTLP receiver whose responses the test controls.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use omniflow_policy::audit::{AuditItem, AuditKey, CallAggregate, ReportedGap, ReportedGapCause};
use omniflow_policy::denial::{Denial, Outcome};
use omniflow_policy::key::Environment;
use omniflow_policy::time::UnixMillis;
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message;
use uuid::Uuid;

use omniflow_domain::clock::Entropy;
use omniflow_outbound::otlp::*;
use omniflow_outbound::source::DeliverySource;
use omniflow_store::ExportPlace;
use omniflow_test_server::{START, TestServer, record};

/// The responses of the receiver.
type Script = Box<dyn FnMut(&[LogRecord]) -> (u16, Vec<(&'static str, &'static str)>, Vec<u8>) + Send>;

#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<Export>>>);

/// The headers of an export, the status of the response, and the records.
type Export = (HeaderMap, u16, Vec<LogRecord>);

impl Received {
    /// The records of all requests that received a 200.
    fn taken(&self) -> Vec<LogRecord> {
        let all = self.0.lock().unwrap();
        all.iter().filter(|(_, status, _)| *status == 200).flat_map(|(_, _, logs)| logs.clone()).collect()
    }

    fn ids(&self) -> Vec<i64> {
        self.taken().iter().map(|log| int(log, "omniflow.record.id")).collect()
    }

    fn requests(&self) -> Vec<(u16, usize)> {
        self.0.lock().unwrap().iter().map(|(_, status, logs)| (*status, logs.len())).collect()
    }
}

fn value(log: &LogRecord, key: &str) -> Option<Value> {
    let all = log.attributes.iter();
    let mut found =
        all.filter(|attribute| attribute.key == key).map(|one| one.value.clone().unwrap().value.unwrap());
    let value = found.next();
    assert_eq!(found.next(), None, "{key} stands twice");
    value
}

fn text(log: &LogRecord, key: &str) -> String {
    match value(log, key) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{key} is {other:?}"),
    }
}

fn int(log: &LogRecord, key: &str) -> i64 {
    match value(log, key) {
        Some(Value::IntValue(number)) => number,
        other => panic!("{key} is {other:?}"),
    }
}

fn body(log: &LogRecord) -> Value {
    log.body.clone().unwrap().value.unwrap()
}

async fn receiver(script: Script) -> (String, Received) {
    let received = Received::default();
    let script = Arc::new(Mutex::new(script));
    let take = move |State(received): State<Received>, headers: HeaderMap, body: Bytes| {
        let request = ExportLogsServiceRequest::decode(body).unwrap();
        let logs: Vec<_> = request
            .resource_logs
            .into_iter()
            .flat_map(|resource| resource.scope_logs)
            .flat_map(|scope| scope.log_records)
            .collect();
        let (status, more, body) = (script.lock().unwrap())(&logs);
        received.0.lock().unwrap().push((headers, status, logs));
        let mut answer = HeaderMap::new();
        for (name, value) in more {
            answer.insert(name, value.parse().unwrap());
        }
        async move { (StatusCode::from_u16(status).unwrap(), answer, body) }
    };
    let router = Router::new().route("/v1/logs", post(take)).with_state(received.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/logs", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, received)
}

/// Responds with these statuses in turn, and then with 200.
fn statuses(statuses: &[u16]) -> Script {
    let mut statuses: std::vec::IntoIter<u16> = Vec::from(statuses).into_iter();
    Box::new(move |_| (statuses.next().unwrap_or(200), Vec::new(), Vec::new()))
}

async fn start_server(endpoint: &str) -> TestServer {
    with_export(TestServer::new().await, endpoint).await
}

async fn with_export(server: TestServer, endpoint: &str) -> TestServer {
    let headers = server.folder().join("otlp-headers");
    if !headers.exists() {
        omniflow_files::private::write_private(&headers, "authorization: Bearer c0ffee\nx-tenant: 7\n")
            .unwrap();
    }
    let settings =
        OtlpSettings { endpoint: endpoint.parse().unwrap(), headers_file: Some(headers), ca_file: None };
    server.restart_with(|with| with.otlp = Some(settings)).await
}

/// Runs steps until everything is sent, or until it has to wait.
async fn run(server: &TestServer, run: &mut Run) -> Next {
    let longest_pauses = Entropy::from_fn(|buffer| {
        buffer.fill(0xff);
        Ok(())
    });
    let source = DeliverySource { entropy: &longest_pauses, ..server.app.delivery_source() };
    loop {
        match run.step(server.app.exporter.as_ref().unwrap(), source).await.unwrap() {
            Next::More => {}
            next => return next,
        }
    }
}

async fn place(server: &TestServer) -> ExportPlace {
    server.app.store.export_place().await.unwrap().unwrap()
}

async fn deliver(server: &TestServer, token: &str, numbers: std::ops::Range<u64>) {
    for first in numbers.clone().step_by(1_000) {
        let records = (first..numbers.end.min(first + 1_000)).map(|n| record(n, START + n, None)).collect();
        assert_eq!(server.deliver(token, records).await.status, StatusCode::NO_CONTENT);
    }
}

/// An allowed call, a refused one, aggregated calls and a gap.
fn one_of_each() -> Vec<AuditItem> {
    let mut call = record(0, START, Some((Uuid::from_u128(9), "crm-sync")));
    call.method = "PURGE".to_owned();
    let mut refused = record(1, START + 1, None);
    (refused.status, refused.outcome) = (403, Outcome::Denied(Denial::InsufficientScope));
    (refused.endpoint, refused.source_ip) = (None, None);
    let aggregated = CallAggregate {
        sequence: 2,
        key: Some(AuditKey {
            id: Uuid::from_u128(9),
            name: "crm-sync".to_owned(),
            version: 3,
            environment: Environment::Live,
        }),
        source_ip: Some("203.0.113.9".parse().unwrap()),
        outcome: Outcome::Denied(Denial::KeyRevoked),
        status: 401,
        calls: 40,
        first_time: UnixMillis(START + 10),
        last_time: UnixMillis(START + 900),
    };
    let lost = ReportedGap {
        sequence: 42,
        calls: 7,
        cause: ReportedGapCause::BufferFull,
        from: Some(UnixMillis(START + 100)),
        to: UnixMillis(START + 500),
    };
    vec![call.into(), refused.into(), AuditItem::Aggregated(aggregated), AuditItem::Gap(lost)]
}

/// Checks the attributes of the first of [`one_of_each`].
fn check_call(call: &LogRecord) {
    assert_eq!((call.time_unix_nano, call.observed_time_unix_nano), (START * 1_000_000, START * 1_000_000));
    for (key, expected) in [
        ("http.request.method", "_OTHER"),
        ("http.request.method_original", "PURGE"),
        ("http.route", "/api/v1/contacts"),
        ("url.path", "/api/v1/contacts"),
        ("client.address", "203.0.113.7"),
        ("omniflow.decision", "allowed"),
        ("omniflow.reason", "allowed"),
        ("omniflow.key.id", "00000000-0000-0000-0000-000000000009"),
        ("omniflow.key.name", "crm-sync"),
        ("omniflow.key.environment", "live"),
        ("omniflow.request_id", "request-0"),
        ("omniflow.gateway", "edge"),
        ("omniflow.argument_hash", "01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b"),
    ] {
        assert_eq!(text(call, key), expected, "{key}");
    }
    for (key, expected) in [
        ("http.response.status_code", 200),
        ("http.request.body.size", 120),
        ("http.response.body.size", 340),
        ("omniflow.latency_us", 900),
        ("omniflow.key.version", 1),
        ("omniflow.record.id", 1),
    ] {
        assert_eq!(int(call, key), expected, "{key}");
    }
}

#[tokio::test]
async fn records_and_gaps_are_reported_in_the_words_of_opentelemetry() {
    let (url, received) = receiver(statuses(&[])).await;
    let server = start_server(&url).await;
    let token = server.token("gateway").await;
    server.deliver_items(&token, one_of_each()).await;
    assert_eq!(run(&server, &mut Run::default()).await, Next::Rest);

    let headers = received.0.lock().unwrap()[0].0.clone();
    assert_eq!(headers["content-type"], "application/x-protobuf");
    assert_eq!(
        (&headers["authorization"], &headers["x-tenant"]),
        (&"Bearer c0ffee".parse().unwrap(), &"7".parse().unwrap())
    );
    let logs = received.taken();
    let reported: Vec<_> =
        logs.iter().map(|log| (log.event_name.as_str(), log.severity_text.as_str(), body(log))).collect();
    let said = |text: &str| Value::StringValue(text.to_owned());
    assert_eq!(
        reported,
        [
            ("omniflow.audit.call", "INFO", said("PURGE /api/v1/contacts 200 allowed")),
            ("omniflow.audit.call", "WARN", said("GET /api/v1/contacts 403 insufficient_scope")),
            ("omniflow.audit.aggregate", "WARN", said("40 calls: key_revoked")),
            ("omniflow.audit.gap", "ERROR", said("7 calls of gateway edge have no record: buffer_full")),
        ]
    );
    check_call(&logs[0]);
    assert_eq!(text(&logs[1], "http.request.method"), "GET");
    for key in ["http.route", "client.address", "omniflow.key.id", "http.request.method_original"] {
        assert_eq!(value(&logs[1], key), None, "{key}");
    }
    assert_eq!(
        (int(&logs[2], "omniflow.aggregated_calls"), text(&logs[2], "client.address")),
        (40, "203.0.113.9".to_owned())
    );
    assert_eq!(int(&logs[2], "omniflow.key.version"), 3);
    assert_eq!(value(&logs[2], "url.path"), None);
    let gap = &logs[3];
    assert_eq!(
        (
            int(gap, "omniflow.gap.missing"),
            text(gap, "omniflow.gap.cause"),
            value(gap, "omniflow.gap.at_least")
        ),
        (7, "buffer_full".to_owned(), Some(Value::BoolValue(false)))
    );
    assert_eq!(text(gap, "omniflow.gap.from"), "2027-01-15T08:00:00.100Z");
    let uids: std::collections::HashSet<_> = logs.iter().map(|log| text(log, "log.record.uid")).collect();
    assert_eq!(uids.len(), 4);
    assert_eq!(run(&server, &mut Run::default()).await, Next::Rest);
    assert_eq!(received.requests().len(), 1, "nothing is sent twice");
    let metrics = String::from_utf8(server.get("/metrics").await.body.to_vec()).unwrap();
    assert!(metrics.contains("omf_otlp_exported_total 4\n"), "{metrics}");
    assert!(!metrics.contains("c0ffee"));
}

#[tokio::test]
async fn it_begins_with_what_comes_after_it_was_set_up_and_goes_on_after_a_restart() {
    let (url, received) = receiver(statuses(&[])).await;
    let before = TestServer::new().await;
    let token = before.token("gateway").await;
    deliver(&before, &token, 0..3).await;
    let server = with_export(before, &url).await;
    assert_eq!(run(&server, &mut Run::default()).await, Next::Rest);
    assert_eq!(received.ids(), [] as [i64; 0]);
    deliver(&server, &token, 3..2_503).await;
    assert_eq!(run(&server, &mut Run::default()).await, Next::Rest);
    assert_eq!(received.requests(), [(200, 1_000), (200, 1_000), (200, 500)]);
    // For a while, nothing is exported; later, no record is missing.
    let server = server.restart_with(|with| with.otlp = None).await;
    deliver(&server, &token, 2_503..2_505).await;
    let server = with_export(server, &url).await;
    assert_eq!(run(&server, &mut Run::default()).await, Next::Rest);
    assert_eq!(received.ids(), (4..=2_505).collect::<Vec<i64>>());
}

#[tokio::test]
async fn what_is_not_taken_is_sent_again_as_the_same_record() {
    let mut answers = vec![(503, "7"), (429, "0"), (401, "0"), (502, "0"), (500, "0")].into_iter();
    let (url, received) = receiver(Box::new(move |_| match answers.next() {
        Some((status, after)) => (status, vec![("retry-after", after)], Vec::new()),
        None => (200, Vec::new(), Vec::new()),
    }))
    .await;
    let server = start_server(&url).await;
    let token = server.token("gateway").await;
    deliver(&server, &token, 0..2).await;
    let mut going = Run::default();
    let mut waits = Vec::new();
    while let Next::Wait(pause) = run(&server, &mut going).await {
        waits.push(pause.as_secs());
        deliver(&server, &token, 2 + waits.len() as u64 - 1..2 + waits.len() as u64).await;
    }
    assert_eq!(waits, [7, 2, 4, 8, 16], "the longer of both");
    assert_eq!(received.ids(), [1, 2, 3, 4, 5, 6, 7]);
    let uids: std::collections::HashSet<_> =
        received.0.lock().unwrap().iter().map(|(_, _, logs)| text(&logs[0], "log.record.uid")).collect();
    assert_eq!(uids.len(), 1, "one record, one name");
    assert_eq!(server.app.exporter.as_ref().unwrap().failures().load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn a_receiver_that_is_away_holds_nothing_up() {
    let server = start_server("http://127.0.0.1:9/v1/logs").await;
    let token = server.token("gateway").await;
    deliver(&server, &token, 0..2).await;
    assert_eq!(run(&server, &mut Run::default()).await, Next::Wait(Duration::from_secs(1)));
    deliver(&server, &token, 2..4).await;
    server.pass(Duration::from_secs(90));
    let metrics = String::from_utf8(server.get("/metrics").await.body.to_vec()).unwrap();
    for line in ["omf_otlp_waiting_records 4", "omf_otlp_lag_seconds 90", "omf_otlp_failures_total 1"] {
        assert!(metrics.lines().any(|one| one == line), "{metrics}");
    }
}

#[tokio::test]
async fn what_the_receiver_does_not_want_is_counted_and_not_sent_again() {
    let partial = ExportLogsServiceResponse {
        partial_success: Some(ExportLogsPartialSuccess {
            rejected_log_records: 2,
            error_message: "too old".to_owned(),
        }),
    };
    let (url, received) = receiver(Box::new(move |_| (200, Vec::new(), partial.encode_to_vec()))).await;
    let server = start_server(&url).await;
    let token = server.token("gateway").await;
    deliver(&server, &token, 0..5).await;
    assert_eq!(run(&server, &mut Run::default()).await, Next::Rest);
    let ExportPlace { record, exported, rejected, .. } = place(&server).await;
    assert_eq!((record, exported, rejected, received.requests()), (5, 3, 2, vec![(200, 5)]));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_found_and_passed_over() {
    let (url, received) = receiver(Box::new(|logs| {
        let is_bad = logs.iter().any(|log| int(log, "omniflow.record.id") == 7);
        (if is_bad { 400 } else { 200 }, Vec::new(), Vec::new())
    }))
    .await;
    let server = start_server(&url).await;
    let token = server.token("gateway").await;
    deliver(&server, &token, 0..20).await;
    assert_eq!(run(&server, &mut Run::default()).await, Next::Rest);
    assert_eq!(received.ids(), (1..=20).filter(|id| *id != 7).collect::<Vec<_>>());
    let ExportPlace { exported, rejected, .. } = place(&server).await;
    assert_eq!((exported, rejected), (19, 1));
}

#[tokio::test]
async fn a_receiver_that_takes_nothing_at_all_costs_no_record() {
    let (url, received) = receiver(statuses(&[400; 6])).await;
    let server = start_server(&url).await;
    let token = server.token("gateway").await;
    deliver(&server, &token, 0..20).await;
    let mut going = Run::default();
    assert!(matches!(run(&server, &mut going).await, Next::Wait(_)), "not one was taken");
    assert_eq!(place(&server).await.record, 0);
    assert_eq!(run(&server, &mut going).await, Next::Rest);
    assert_eq!(received.ids(), (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_was_purged_before_it_could_be_sent_is_counted() {
    let (url, received) = receiver(statuses(&[503])).await;
    let server = start_server(&url).await;
    let token = server.token("gateway").await;
    deliver(&server, &token, 0..5).await;
    let mut going = Run::default();
    run(&server, &mut going).await;
    server.pass(Duration::from_secs(91 * 86_400));
    server.purge().await;
    let late = (5..7).map(|n| record(n, START + 91 * 86_400_000, None)).collect();
    server.deliver(&token, late).await;
    assert_eq!(run(&server, &mut going).await, Next::Rest);
    let ExportPlace { exported, purged, .. } = place(&server).await;
    assert_eq!((received.ids(), exported, purged), (vec![6, 7], 2, 5));
}

#[test]
fn the_endpoint_is_a_whole_url() {
    assert!(parse_endpoint("https://collector.example.com/v1/logs").is_ok());
    assert!(parse_endpoint("http://127.0.0.1:4318/v1/logs").is_ok());
    for bare in ["https://collector.example.com", "https://collector.example.com/"] {
        assert!(parse_endpoint(bare).unwrap_err().contains("/v1/logs"), "{bare}");
    }
    assert!(parse_endpoint("http://collector.example.com/v1/logs").unwrap_err().contains("local receivers"));
}
