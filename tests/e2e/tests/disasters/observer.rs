//! Clients that keep calling during a fault, and their responses.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use omniflow_harness::{Connection, Stack, eventually};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::support::{contacts, refusal};

/// The limit per hour of the limited key: one call per 180 seconds.
pub(super) const SPENT: u64 = 20;
const CLIENTS: usize = 4;
const PERIOD: Duration = Duration::from_millis(10);
/// A call that takes longer counts as failed.
const PATIENCE: Duration = Duration::from_secs(5);
const WAIT: Duration = Duration::from_secs(60);

/// Three keys: a valid one, a revoked one, and one that has used up its limit.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) good: String,
    pub(super) revoked: String,
    pub(super) spent: String,
}

/// Running clients.
pub(super) struct Observer {
    state: Arc<State>,
    clients: Vec<JoinHandle<Client>>,
    began: Instant,
}

#[derive(Debug, Default)]
struct State {
    stop: AtomicBool,
    good: AtomicU64,
}

/// The responses to one client.
#[derive(Debug, Default)]
struct Client {
    passed: u64,
    refused: BTreeMap<String, u64>,
    longest: Duration,
}

/// The responses to all clients.
#[derive(Debug)]
pub(super) struct Seen {
    /// Calls with the valid key: the number of successful calls, and the failures by kind.
    pub(super) passed: u64,
    pub(super) refused: BTreeMap<String, u64>,
    /// The longest time without a successful call that contains a failed one.
    pub(super) longest: Duration,
    /// Successful calls with the revoked key.
    pub(super) revoked: u64,
    /// Successful calls with the key that has used up its limit.
    pub(super) spent: u64,
    pub(super) took: Duration,
}

/// Creates the keys of a stack, revokes one and uses up the limit of another.
pub(super) async fn keys(stack: &Stack) -> Keys {
    let fields = |name: &str, limit| json!({"name": name, "environment": "live", "scopes": ["contacts:read"], "rate_limit": limit});
    let good = stack.key(fields("good", json!({"per_minute": 1_000_000}))).await.unwrap();
    let revoked = stack.key(fields("revoked", json!({"per_minute": 1_000_000}))).await.unwrap();
    let spent = stack.key(fields("spent", json!({"per_hour": SPENT}))).await.unwrap();
    stack.control_plane.revoke(&revoked.id, Some(Duration::from_secs(10))).await.unwrap();
    let keys = Keys { good: good.secret, revoked: revoked.secret, spent: spent.secret };
    for _ in 0..SPENT {
        assert_eq!(stack.call(contacts(&keys.spent)).await.unwrap().status, 200);
    }
    let over = stack.call(contacts(&keys.spent)).await.unwrap();
    assert_eq!(refusal(&over), (429, Some("rate_limited".to_owned())));
    let gone = stack.call(contacts(&keys.revoked)).await.unwrap();
    assert_eq!(refusal(&gone), (401, Some("key_revoked".to_owned())));
    keys
}

/// Waits until the log accounts for every call that Envoy has counted, without a gap.
pub(super) async fn nothing_lost(stack: &Stack) {
    eventually(WAIT, || async {
        let stats = stack.envoy.stats().await?;
        let decisions = |(name, n): (&String, &u64)| name.contains("omniflow_decisions_").then_some(*n);
        let counted: u64 = stats.iter().filter_map(decisions).sum();
        // A wide range, because the clock of one side may be an hour off.
        let reported = stack
            .control_plane
            .get("/v1/audit/stats?from=2020-01-01T00:00:00Z&to=2099-01-01T00:00:00Z")
            .await?;
        let gaps = stack.control_plane.list("/v1/audit/gaps").await?;
        let total = reported["total"]["calls"].as_u64().unwrap_or(0);
        ensure!(gaps.is_empty() && total >= counted, "{counted} calls, {total} in the log, gaps: {gaps:?}");
        Ok(())
    })
    .await
    .unwrap();
}

// === impl Observer ===

impl Observer {
    /// Starts clients with their own connections, which call until [`Observer::stop`].
    pub(super) fn start(port: u16, keys: &Keys) -> Self {
        let state = Arc::new(State::default());
        let client =
            |secret: &str, is_good| tokio::spawn(go_on(port, secret.to_owned(), is_good, Arc::clone(&state)));
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| client(&keys.good, true)).collect();
        clients.extend([client(&keys.revoked, false), client(&keys.spent, false)]);
        Self { state, clients, began: Instant::now() }
    }

    /// Waits for this many more successful calls with the valid key.
    pub(super) async fn passed(&self, more: u64) -> Result<()> {
        let enough = self.state.good.load(Ordering::Relaxed) + more;
        eventually(WAIT, || async {
            let passed = self.state.good.load(Ordering::Relaxed);
            ensure!(passed >= enough, "{passed} of {enough} calls have passed");
            Ok(())
        })
        .await
    }

    /// Stops the clients after their current calls.
    pub(super) async fn stop(self) -> Seen {
        self.state.stop.store(true, Ordering::Relaxed);
        let took = self.began.elapsed();
        let mut clients = Vec::new();
        for client in self.clients {
            clients.push(client.await.unwrap());
        }
        let spent = clients.pop().map_or(0, |client| client.passed);
        let revoked = clients.pop().map_or(0, |client| client.passed);
        let mut seen =
            Seen { passed: 0, refused: BTreeMap::new(), longest: Duration::ZERO, revoked, spent, took };
        for client in clients {
            seen.passed += client.passed;
            seen.longest = seen.longest.max(client.longest);
            for (what, count) in client.refused {
                *seen.refused.entry(what).or_default() += count;
            }
        }
        seen
    }
}

async fn go_on(port: u16, secret: String, is_good: bool, state: Arc<State>) -> Client {
    let mut seen = Client::default();
    let mut pace = interval(PERIOD);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut connection, mut last, mut broken) = (None, Instant::now(), false);
    while !state.stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let answer = async {
            let mut open = match connection.take() {
                Some(open) => open,
                None => Connection::http1(port).await.map_err(|_| "connection refused")?,
            };
            let response =
                open.call(contacts(&secret).within(PATIENCE)).await.map_err(|_| "connection closed")?;
            connection = Some(open);
            Ok::<_, &str>(response)
        };
        let what = match answer.await {
            Ok(response) if response.status == 200 => {
                seen.passed += 1;
                if is_good {
                    state.good.fetch_add(1, Ordering::Relaxed);
                }
                if std::mem::take(&mut broken) {
                    seen.longest = seen.longest.max(last.elapsed());
                }
                last = Instant::now();
                continue;
            }
            Ok(response) => match response.problem_code() {
                Some(code) => format!("{} {code}", response.status),
                None => response.status.to_string(),
            },
            Err(what) => what.to_owned(),
        };
        broken = true;
        *seen.refused.entry(what).or_default() += 1;
    }
    seen
}

// === impl Seen ===

impl Seen {
    /// Asserts that no revoked key was accepted, and that limits were refilled only by time.
    pub(super) fn holds(&self) -> &Self {
        let refilled = self.took.as_secs() / (3_600 / SPENT) + 1;
        assert_eq!(self.revoked, 0, "a revoked key has passed: {self:?}");
        assert!(self.spent < refilled + 1, "a limit was refilled: {self:?}");
        self
    }

    /// Asserts that every call with the valid key succeeded.
    pub(super) fn all_passed(&self) -> &Self {
        assert!(self.refused.is_empty(), "{self:?}");
        self
    }

    /// The cell of the table for calls with the valid key.
    pub(super) fn clients(&self) -> String {
        let refused: u64 = self.refused.values().sum();
        let mut text = format!("{} of {} calls succeeded", self.passed, self.passed + refused);
        for (what, count) in &self.refused {
            let _ = write!(text, "; {count} × {what}");
        }
        if refused > 0 {
            let _ = write!(text, "; longest outage {} ms", self.longest.as_millis());
        }
        text
    }
}
