//! The server behind `ext_authz`: it knows one key and answers at once. A real one does more.

use std::convert::Infallible;
use std::net::Ipv4Addr;

use anyhow::Result;
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::header::AUTHORIZATION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Serves until the process is ended.
pub(crate) async fn serve(port: u16, key: String) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let expected = format!("Bearer {key}");
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let expected = expected.clone();
        tokio::spawn(async move {
            let answer = service_fn(|request: Request<Incoming>| {
                let is_known = request.headers().get(AUTHORIZATION).is_some_and(|value| *value == expected);
                async move {
                    let mut response = Response::new(Empty::<Bytes>::new());
                    if !is_known {
                        *response.status_mut() = StatusCode::FORBIDDEN;
                    }
                    Ok::<_, Infallible>(response)
                }
            });
            // A connection that breaks is Envoy's to open anew.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
