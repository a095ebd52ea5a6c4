//! Limits: exact across all workers and both versions of HTTP, not charged for refused calls, and reported so that a
//! client that waits as instructed succeeds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use omniflow_harness::{Call, Connection, Response, Stack};
use serde_json::json;

/// Calls per hour: one is refilled every 120 seconds.
const LIMIT: u64 = 30;
const INTERVAL: Duration = Duration::from_secs(3_600 / LIMIT);
const CONNECTIONS: u64 = 8;
const ATTEMPTS: u64 = 20;

/// The attempts, their number, and the violations.
pub type Case = (&'static str, usize, Option<String>);

/// Runs all checks on a stack.
pub async fn cases(stack: &Stack, allowed: &str) -> Result<Vec<Case>> {
    let fields = json!({
        "name": "limited", "environment": "live", "scopes": ["contacts:read"], "rate_limit": {"per_hour": LIMIT},
    });
    let key = stack.key(fields).await?;
    let good = Call::get(allowed).header("x-api-key", &key.secret);
    let mut cases = vec![case("refused calls cost nothing", 60, free(stack, allowed, &good).await)];
    let start = Instant::now();
    cases.push(case(
        "exact over workers and versions",
        usize::try_from(CONNECTIONS * ATTEMPTS)?,
        exact(stack, &good, start).await,
    ));
    cases.push(case("a refusal says which limit, and how long", 1, check_retry_after(stack, &good).await));
    let changed = async {
        stack.control_plane.change_key(&key.id, &json!({"ip_allowlist": ["127.0.0.0/8"]})).await?;
        let rotated = stack.control_plane.rotate(&key.id, "1h").await?;
        stack.in_step().await?;
        for secret in [&key.secret, &rotated.secret] {
            let response = stack.call(Call::get(allowed).header("x-api-key", secret)).await?;
            let has_come_back = start.elapsed() >= INTERVAL;
            ensure!(response.status == 429 || has_come_back, "{}", response.status);
        }
        Ok(())
    };
    cases.push(case("a change and a rotation refill nothing", 2, changed.await));
    cases.push(case("who waits as advised gets through", 3, waits(stack, allowed).await));
    Ok(cases)
}

fn case(name: &'static str, variants: usize, outcome: Result<()>) -> Case {
    (name, variants, outcome.err().map(|error| format!("{error:#}")))
}

async fn free(stack: &Stack, allowed: &str, good: &Call) -> Result<()> {
    // Also ambiguous after Envoy has merged slashes and removed dot segments.
    let ambiguous = format!("{allowed};x");
    for _ in 0..20 {
        for (method, path) in [("GET", ambiguous.as_str()), ("GET", "/api/v1/tickets"), ("DELETE", allowed)] {
            let call = Call { method: method.to_owned(), path: path.to_owned(), ..good.clone() };
            let response = stack.call(call).await?;
            ensure!(matches!(response.status, 400 | 403), "{method} {path}: {}", response.status);
        }
    }
    let response = stack.call(good.clone()).await?;
    ensure!(response.status == 200, "{}", response.text());
    let remaining = response.number("x-ratelimit-remaining")?;
    ensure!(remaining == LIMIT - 1, "{remaining} are left of {LIMIT} after one call");
    Ok(())
}

/// One call was made before.
async fn exact(stack: &Stack, good: &Call, start: Instant) -> Result<()> {
    let passed = Arc::new(AtomicU64::new(1));
    let mut tasks = Vec::new();
    for n in 0..CONNECTIONS {
        let port = stack.envoy.port();
        let mut connection =
            if n % 2 == 0 { Connection::http1(port).await? } else { Connection::http2(port).await? };
        let (passed, good) = (Arc::clone(&passed), good.clone());
        tasks.push(tokio::spawn(async move {
            for _ in 0..ATTEMPTS {
                if connection.call(good.clone()).await?.status == 200 {
                    passed.fetch_add(1, Ordering::Relaxed);
                }
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let passed = passed.load(Ordering::Relaxed);
    let most = LIMIT + start.elapsed().as_secs() / INTERVAL.as_secs();
    ensure!((LIMIT..=most).contains(&passed), "{passed} of {LIMIT} have passed");
    Ok(())
}

async fn check_retry_after(stack: &Stack, good: &Call) -> Result<()> {
    let response = refused(stack, good).await?;
    let wait = response.number("retry-after")?;
    ensure!((1..=INTERVAL.as_secs()).contains(&wait), "Retry-After: {wait}");
    ensure!(response.number("x-ratelimit-reset")? >= 1, "a reset of 0");
    ensure!(response.number("x-ratelimit-remaining")? == 0, "something is left");
    ensure!(response.json()?["limit"].is_string(), "no limit is named: {}", response.text());
    Ok(())
}

async fn refused(stack: &Stack, call: &Call) -> Result<Response> {
    let response = stack.call(call.clone()).await?;
    ensure!(response.status == 429, "{}: {}", response.status, response.text());
    ensure!(response.problem_code().as_deref() == Some("rate_limited"), "{}", response.text());
    Ok(response)
}

async fn waits(stack: &Stack, allowed: &str) -> Result<()> {
    let limit = json!({"per_minute": 60, "burst": 1});
    let fields = json!({
        "name": "patient", "environment": "live", "scopes": ["contacts:read"], "rate_limit": limit,
    });
    let key = stack.key(fields).await.context("a key")?;
    let call = Call::get(allowed).header("x-api-key", &key.secret);
    ensure!(stack.call(call.clone()).await?.status == 200, "the first call was refused");
    // On a slow machine, a second may have passed already: then there is nothing to wait for.
    let response = stack.call(call.clone()).await?;
    if response.status == 429 {
        // The wait is what this test is about.
        tokio::time::sleep(Duration::from_secs(response.number("retry-after")?)).await;
        ensure!(stack.call(call).await?.status == 200, "it was refused after the advised wait");
    }
    Ok(())
}
