//! An admin who revokes keys, signs in and opens pages.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use omniflow_harness::control_plane::NewKey;
use omniflow_harness::{Call, Stack};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// Time between two rounds.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a revocation waits for its enforcement.
const WAIT: Duration = Duration::from_secs(20);
/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// More rounds than there are in an attack.
pub(crate) const KEYS: usize = 40;

/// What the admin did, and how long the answers took.
#[derive(Debug, Default)]
pub(crate) struct Administration {
    /// Revocations that were answered and enforced.
    pub(crate) revocations: usize,
    /// The slowest answer to each kind of action.
    pub(crate) slowest: [Duration; 3],
    /// What failed.
    pub(crate) failures: Vec<String>,
}

/// Keys that the admin will revoke.
pub(crate) async fn keys(stack: &Stack) -> Result<Vec<NewKey>> {
    let mut keys = Vec::with_capacity(KEYS);
    for n in 0..KEYS {
        keys.push(stack.control_plane.create_live_key(&format!("leaked-{n}"), &["contacts:read"]).await?);
    }
    stack.in_step().await?;
    Ok(keys)
}

/// Acts until this instant.
pub(crate) async fn administer(stack: &Stack, keys: Vec<NewKey>, until: Instant) -> Administration {
    let mut done = Administration::default();
    for key in keys {
        if Instant::now() >= until {
            break;
        }
        if done.timed(0, "revocation", revoke(stack, &key)).await.is_some() {
            done.revocations += 1;
        }
        if let Some(cookie) = done.timed(1, "sign-in", sign_in(stack)).await {
            for path in ["/keys".to_owned(), "/audit".to_owned(), format!("/keys/{}", key.id)] {
                done.timed(2, "page", open(stack, &path, &cookie)).await;
            }
        }
        sleep(PAUSE).await;
    }
    done
}

async fn revoke(stack: &Stack, key: &NewKey) -> Result<()> {
    let answer = stack.control_plane.revoke(&key.id, Some(WAIT)).await?;
    ensure!(answer["enforcement"]["complete"] == Value::Bool(true), "not enforced: {answer}");
    let call = Call::get("/api/v1/contacts").header("x-api-key", &key.secret).within(DEADLINE);
    let response = stack.call(call).await?;
    ensure!(response.status == 401, "a revoked key was answered with {}", response.status);
    Ok(())
}

/// The cookie of a new session.
async fn sign_in(stack: &Stack) -> Result<String> {
    let call = Call::new("POST", "/sign-in")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("sec-fetch-site", "same-origin")
        .header("accept", "text/html")
        .body(format!("token={}", stack.control_plane.admin_token()))
        .within(DEADLINE);
    let response = stack.control_plane.call(call).await?;
    ensure!(response.status == 303, "{}", response.status);
    let cookie = response.header("set-cookie").context("no cookie")?;
    Ok(cookie.split(';').next().unwrap_or_default().to_owned())
}

async fn open(stack: &Stack, path: &str, cookie: &str) -> Result<()> {
    let call = Call::get(path).header("cookie", cookie).header("accept", "text/html").within(DEADLINE);
    let response = stack.control_plane.call(call).await?;
    ensure!(response.status == 200, "{path}: {}", response.status);
    Ok(())
}

/// A key for a client that has nothing to do with the attack.
pub(crate) async fn other_key(stack: &Stack) -> Result<NewKey> {
    let fields = json!({
        "name": "other", "environment": "live", "scopes": ["contacts:read", "contacts:write"],
        "rate_limit": {"per_minute": 1_000_000},
    });
    stack.key(fields).await
}

// === impl Administration ===

impl Administration {
    async fn timed<T>(
        &mut self,
        kind: usize,
        what: &str,
        action: impl Future<Output = Result<T>>,
    ) -> Option<T> {
        let started = Instant::now();
        let result = action.await;
        if let Some(slowest) = self.slowest.get_mut(kind) {
            *slowest = (*slowest).max(started.elapsed());
        }
        result.inspect_err(|error| self.failures.push(format!("{what}: {error:#}"))).ok()
    }
}
