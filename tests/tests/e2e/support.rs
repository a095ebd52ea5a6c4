//! What several subjects need.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use omniflow_harness::control_plane::NewKey;
use omniflow_harness::{Call, Connection, Response};
use omniflow_policy::outcome::Denial;
use serde_json::json;

/// A route that every test with `contacts:read` may call.
pub(crate) const CONTACTS: &str = "/api/v1/contacts";

/// The status of a reason code.
pub(crate) fn denial_status(code: &str) -> u16 {
    Denial::ALL.iter().find(|denial| denial.code() == code).map_or(0, |denial| denial.status())
}

/// An instant in the future, as the API takes it.
pub(crate) fn rfc3339_in(ahead: Duration) -> String {
    let time = jiff::Timestamp::try_from(SystemTime::now() + ahead).unwrap();
    time.round(jiff::Unit::Millisecond).unwrap().to_string()
}

/// Connections that reach every worker of an Envoy: many, because the kernel spreads them as it likes.
pub(crate) async fn connections(port: u16, count: usize) -> Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        connections.push(Connection::http1(port).await?);
    }
    Ok(connections)
}

/// A call to [`CONTACTS`] with a key.
pub(crate) fn contacts(secret: &str) -> Call {
    Call::get(CONTACTS).header("x-api-key", secret)
}

/// Status and problem code.
pub(crate) fn refusal(response: &Response) -> (u16, Option<String>) {
    (response.status, response.problem_code())
}

/// A call that makes a live key which may call [`CONTACTS`], for clients that run beside the test.
pub(crate) fn create_call(name: &str, token: &str) -> Call {
    let fields = json!({"name": name, "environment": "live", "scopes": ["contacts:read"]});
    Call::post("/v1/keys", &fields).bearer(token)
}

/// The key that such a call has made.
pub(crate) fn created(response: &Response) -> Result<NewKey> {
    let answer = response.json()?;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    Ok(NewKey {
        id: text(&answer["key"]["id"]).context("no id")?,
        secret: text(&answer["secret"]).context("no secret")?,
        key: answer["key"].clone(),
    })
}
