//! A browser without a window: it keeps cookies, follows no redirect, and sends forms as browsers do.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};

use omniflow_test_server::{Answer, TestServer};

pub(crate) struct Browser<'p> {
    pub(crate) server: &'p TestServer,
    pub(crate) cookies: BTreeMap<String, String>,
}

impl<'p> Browser<'p> {
    pub(crate) fn new(server: &'p TestServer) -> Self {
        Self { server, cookies: BTreeMap::new() }
    }

    /// A browser that is signed in with this token.
    pub(crate) async fn signed_in(server: &'p TestServer, token: &str) -> Self {
        let mut browser = Self::new(server);
        let answer = browser.send("/sign-in", &[("token", token)]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", text(&answer));
        browser
    }

    pub(crate) async fn open(&mut self, path: &str) -> Answer {
        let request = Request::get(path).header(header::ACCEPT, "text/html").body(Body::empty()).unwrap();
        self.call(request).await
    }

    /// The page at this path, which must exist.
    pub(crate) async fn page(&mut self, path: &str) -> String {
        let answer = self.open(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", text(&answer));
        text(&answer)
    }

    /// Sends a form unchanged.
    pub(crate) async fn send(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::ACCEPT, "text/html")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin")
            .body(Body::from(serde_urlencoded::to_string(fields).unwrap()))
            .unwrap();
        self.call(request).await
    }

    /// Sends a form with the token of this session.
    pub(crate) async fn submit(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = self.csrf().await;
        let mut fields = fields.to_vec();
        fields.push(("csrf", &csrf));
        self.send(path, &fields).await
    }

    /// The hidden fields of this session's forms.
    pub(crate) async fn csrf(&mut self) -> String {
        let page = self.page("/keys").await;
        value_of(&page, "csrf").expect("every page has a form")
    }

    pub(crate) async fn call(&mut self, mut request: Request<Body>) -> Answer {
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            request.headers_mut().insert(header::COOKIE, cookies.join("; ").parse().unwrap());
        }
        let answer = self.server.call(request).await;
        for cookie in answer.headers.get_all(header::SET_COOKIE) {
            let (pair, attributes) = cookie.to_str().unwrap().split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if attributes.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }
}

pub(crate) fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// Where a redirect leads.
pub(crate) fn location(answer: &Answer) -> &str {
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", text(answer));
    answer.headers[header::LOCATION].to_str().unwrap()
}

/// The value of the first field with this name.
pub(crate) fn value_of(page: &str, name: &str) -> Option<String> {
    let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\""))?;
    rest.split('"').next().map(str::to_owned)
}
