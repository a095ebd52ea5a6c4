//! The server behind `ext_authz`. It accepts one key and responds immediately; a real server does more.

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

/// Serves until the process ends.
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
            // Envoy reopens a broken connection.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
