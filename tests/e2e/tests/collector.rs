//! A receiver of OpenTelemetry logs over HTTP, in place of a collector. It decodes the requests.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use omniflow_harness::client::local;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A running receiver. Dropping it closes its port; the received records stay in [`Taken`].
pub(crate) struct Collector(JoinHandle<()>);

/// All received records.
#[derive(Clone, Default)]
pub(crate) struct Taken(Arc<Mutex<Vec<LogRecord>>>);

impl Taken {
    pub(crate) fn all(&self) -> Vec<LogRecord> {
        self.0.lock().unwrap().clone()
    }
}

impl Collector {
    pub(crate) async fn start(port: u16, taken: &Taken) -> Self {
        let listener = TcpListener::bind(local(port)).await.unwrap();
        let taken = taken.clone();
        Self(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let taken = taken.clone();
                let service = service_fn(move |request| take(request, taken.clone()));
                connections.spawn(async move {
                    // A client that is killed breaks its connection.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        }))
    }

    /// Ends it, with whatever is under way.
    pub(crate) async fn stop(self) {
        self.0.abort();
        let _ = self.0.await;
    }
}

async fn take(request: Request<Incoming>, taken: Taken) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.uri().path(), "/v1/logs");
    assert_eq!(request.headers()["content-type"], "application/x-protobuf");
    let Ok(body) = request.into_body().collect().await else {
        // Cut off in the middle: nothing waits for the response.
        return Ok(Response::default());
    };
    let request = ExportLogsServiceRequest::decode(body.to_bytes()).unwrap();
    let scopes = request.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
    taken.0.lock().unwrap().extend(scopes.flat_map(|scope| scope.log_records));
    Ok(Response::new(Full::default()))
}

/// An attribute, as text.
pub(crate) fn attribute(log: &LogRecord, key: &str) -> Option<String> {
    let found = log.attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.clone()?.value? {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key} is {other:?}"),
    }
}
