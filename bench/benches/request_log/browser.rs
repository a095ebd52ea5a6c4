//! A signed-in browser that reads pages of the console, without a network.

use anyhow::{Context as _, Result, ensure};
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use omniflow_test_server::TestServer;

pub(crate) struct Browser<'s> {
    server: &'s TestServer,
    cookies: String,
}

impl<'s> Browser<'s> {
    /// Signs in with the owner's token.
    pub(crate) async fn sign_in(server: &'s TestServer) -> Result<Self> {
        let request = Request::post("/sign-in")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin")
            .body(Body::from(format!("token={}", server.owner)))?;
        let answer = server.call(request).await;
        ensure!(answer.status == StatusCode::SEE_OTHER, "sign-in: {}", answer.status);
        let mut cookies = Vec::new();
        for cookie in answer.headers.get_all(header::SET_COOKIE) {
            let (pair, _) = cookie.to_str()?.split_once(';').context("a cookie without attributes")?;
            cookies.push(pair.to_owned());
        }
        Ok(Self { server, cookies: cookies.join("; ") })
    }

    /// Reads a whole page; returns its size in bytes.
    pub(crate) async fn read(&self, path: &str) -> Result<usize> {
        let request = Request::get(path)
            .header(header::ACCEPT, "text/html")
            .header(header::COOKIE, &self.cookies)
            .body(Body::empty())?;
        let answer = self.server.call(request).await;
        ensure!(answer.status == StatusCode::OK, "{path}: {}", answer.status);
        Ok(answer.body.len())
    }
}
