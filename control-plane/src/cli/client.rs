//! Calls of the control plane's API.

use std::fs;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde_json::Value;
use ureq::Agent;
use ureq::http::{Response, StatusCode};
use zeroize::Zeroizing;

use super::args::Connection;
use crate::fleet::MAX_WAIT;

/// Longer than the longest wait that the API has.
const TIMEOUT: Duration = MAX_WAIT.saturating_mul(2);

/// A control plane, and the token to call it with.
pub(super) struct Client {
    agent: Agent,
    url: String,
    token: Zeroizing<String>,
}

impl Client {
    pub(super) fn new(connection: &Connection) -> anyhow::Result<Self> {
        // An empty variable is one that is not set.
        let given = connection.token.as_ref().filter(|token| !token.is_empty());
        let token = match (given, &connection.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(path)) => fs::read_to_string(path).with_context(|| format!("{}", path.display()))?,
            (None, None) => bail!("no token: set OMF_TOKEN or OMF_TOKEN_FILE, or give --token-file"),
        };
        let config = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            // A token must not follow a redirect to elsewhere.
            .max_redirects(0)
            .build();
        Ok(Self {
            agent: config.into(),
            url: connection.url.trim_end_matches('/').to_owned(),
            token: Zeroizing::new(token.trim().to_owned()),
        })
    }

    /// `GET`, with query parameters of which those without a value are left out.
    pub(super) fn get(&self, path: &str, query: &[(&str, Option<String>)]) -> anyhow::Result<Value> {
        let address = self.address(path) + &encoded(query);
        self.answer(self.agent.get(address).header("authorization", self.bearer()).call())
    }

    /// `POST` of a JSON document.
    pub(super) fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.agent.post(self.address(path)).header("authorization", self.bearer());
        self.answer(request.send_json(body))
    }

    /// `POST` without a body.
    pub(super) fn post_empty(&self, path: &str, query: &[(&str, Option<String>)]) -> anyhow::Result<Value> {
        let address = self.address(path) + &encoded(query);
        self.answer(self.agent.post(address).header("authorization", self.bearer()).send_empty())
    }

    /// `PUT` of a JSON document as it was written, so that refusals tell its own lines.
    pub(super) fn put(
        &self,
        path: &str,
        query: &[(&str, Option<String>)],
        document: &[u8],
    ) -> anyhow::Result<Value> {
        let address = self.address(path) + &encoded(query);
        let request = self.agent.put(address).header("authorization", self.bearer());
        self.answer(request.header("content-type", "application/json").send(document))
    }

    /// `DELETE`.
    pub(super) fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.answer(self.agent.delete(self.address(path)).header("authorization", self.bearer()).call())
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token.as_str())
    }

    fn answer(&self, result: Result<Response<ureq::Body>, ureq::Error>) -> anyhow::Result<Value> {
        let mut response =
            result.with_context(|| {
                format!("no control plane answers at {}: is it running? Set --url or OMF_URL, such as http://127.0.0.1:8080", self.url)
            })?;
        let status = response.status();
        if status == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        let body = response.body_mut().read_json::<Value>();
        if status.is_success() {
            return body.context("the answer is not the JSON that was expected: is this a control plane?");
        }
        Err(match body {
            Ok(problem) => refusal(status, &problem),
            Err(_) => anyhow!("the answer is {status}: is {} a control plane?", self.url),
        })
    }
}

/// A refusal in one line: what is wrong, where, and the stable code.
fn refusal(status: StatusCode, problem: &Value) -> anyhow::Error {
    let text = |name: &str| problem.get(name).and_then(Value::as_str);
    let detail = text("detail").unwrap_or("the control plane gives no reason");
    let code = text("code").unwrap_or("unknown");
    match text("field") {
        Some(field) => anyhow!("{field}: {detail} ({status}, {code})"),
        None => anyhow!("{detail} ({status}, {code})"),
    }
}

/// The query string, with its question mark.
fn encoded(query: &[(&str, Option<String>)]) -> String {
    let pairs = query.iter().filter_map(|(name, value)| Some(format!("{name}={}", segment(value.as_ref()?))));
    let pairs: Vec<String> = pairs.collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// A path segment, or the value of a query parameter, as it travels. Names have spaces.
pub(super) fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_travel_encoded() {
        assert_eq!(segment("CI deploy/é"), "CI%20deploy%2F%C3%A9");
        let query = [("status", Some("4xx".to_owned())), ("ip", None), ("q", Some("a&b=c".to_owned()))];
        assert_eq!(encoded(&query), "?status=4xx&q=a%26b%3Dc");
        assert_eq!(encoded(&[("ip", None)]), "");
    }

    #[test]
    fn a_refusal_names_field_and_code() {
        let problem =
            serde_json::json!({"detail": "no such scope", "code": "invalid_field", "field": "/scopes/0"});
        let error = refusal(StatusCode::UNPROCESSABLE_ENTITY, &problem);
        assert_eq!(error.to_string(), "/scopes/0: no such scope (422 Unprocessable Entity, invalid_field)");
    }
}
