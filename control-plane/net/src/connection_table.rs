//! Limits the number of open connections.
//!
//! Anyone can open connections and send almost nothing over them. Timeouts close each of them, but many can be open at the
//! same time, and each uses a file descriptor. So their number has a maximum. When it is reached, the next connection is
//! still accepted, and the oldest one on which no valid token was received is closed. A client with a token sends it within
//! milliseconds, and no attacker opens thousands of connections in that time. Connections with a valid token stay open.
//! Addresses are not considered: behind a proxy or a NAT, an admin and an attacker may share one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use axum::http::Extensions;
use tokio::time::Instant;

/// Minimum interval between warnings that connections are closed.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The open connections.
#[derive(Debug)]
pub struct ConnectionTable {
    max: usize,
    connections: Mutex<Connections>,
    evicted: AtomicU64,
}

#[derive(Debug, Default)]
struct Connections {
    next: u64,
    /// In the order in which they are closed.
    open: BTreeMap<Rank, Arc<State>>,
    last_warned: Option<Instant>,
}

/// Connections without a valid token come first, and the oldest of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    trusted: bool,
    number: u64,
}

#[derive(Debug)]
struct State {
    number: u64,
    trusted: AtomicBool,
    evicted: AtomicBool,
    reader: Mutex<Option<Waker>>,
    writer: Mutex<Option<Waker>>,
}

/// A handle to an open connection, for requests on it.
#[derive(Clone, Debug)]
pub struct Connection {
    state: Arc<State>,
    table: Arc<ConnectionTable>,
}

/// An open connection, which is removed from the table on drop.
#[derive(Debug)]
pub struct ConnectionGuard(Connection);

// === impl ConnectionTable ===

impl ConnectionTable {
    /// Admits at most `max` connections at once.
    pub fn new(max: usize) -> Self {
        Self { max: max.max(1), connections: Mutex::default(), evicted: AtomicU64::default() }
    }

    /// Admits a connection, and closes another one if there are too many.
    pub fn admit(self: &Arc<Self>) -> ConnectionGuard {
        let mut connections = self.connections();
        let mut should_warn = false;
        while connections.open.len() >= self.max {
            let Some((_, state)) = connections.open.pop_first() else { break };
            state.evict();
            self.evicted.fetch_add(1, Ordering::Relaxed);
            let now = Instant::now();
            should_warn |=
                connections.last_warned.is_none_or(|last| now.duration_since(last) >= WARNING_INTERVAL);
            if should_warn {
                connections.last_warned = Some(now);
            }
        }
        let state = Arc::new(State {
            number: connections.next,
            trusted: AtomicBool::new(false),
            evicted: AtomicBool::new(false),
            reader: Mutex::default(),
            writer: Mutex::default(),
        });
        connections.next += 1;
        connections.open.insert(state.rank(), Arc::clone(&state));
        drop(connections);
        if should_warn {
            tracing::warn!(
                max = self.max,
                "connection limit reached, closing the oldest connections without a valid token"
            );
        }
        ConnectionGuard(Connection { state, table: Arc::clone(self) })
    }

    /// Number of open connections.
    pub fn open(&self) -> usize {
        self.connections().open.len()
    }

    /// Number of connections closed because of the limit.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn rank(&self) -> Rank {
        Rank { trusted: self.trusted.load(Ordering::Acquire), number: self.number }
    }

    fn evict(&self) {
        self.evicted.store(true, Ordering::Release);
        for waiting in [&self.reader, &self.writer] {
            if let Some(waker) = waiting.lock().unwrap_or_else(PoisonError::into_inner).take() {
                waker.wake();
            }
        }
    }

    fn is_evicted(&self, waiting: &Mutex<Option<Waker>>, context: &Context<'_>) -> bool {
        // The waker is stored before the flag is read, so that an eviction in between wakes it.
        let mut noted = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !noted.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *noted = Some(context.waker().clone());
        }
        self.evicted.load(Ordering::Acquire)
    }
}

// === impl Connection ===

impl Connection {
    /// Marks the connection of this request as one with a valid token. It is closed after all those without.
    pub fn trust(extensions: &Extensions) {
        // Requests in tests have no connection.
        if let Some(Self { state, table }) = extensions.get::<Self>()
            && !state.trusted.load(Ordering::Acquire)
        {
            let mut connections = table.connections();
            let known = connections.open.remove(&state.rank());
            state.trusted.store(true, Ordering::Release);
            // A connection that is being closed is not added again.
            if let Some(known) = known {
                connections.open.insert(state.rank(), known);
            }
        }
    }

    /// Whether a valid token was received.
    pub fn is_trusted(&self) -> bool {
        self.state.trusted.load(Ordering::Acquire)
    }
}

// === impl ConnectionGuard ===

impl ConnectionGuard {
    /// The handle for requests on this connection.
    pub fn connection(&self) -> &Connection {
        &self.0
    }

    /// Whether the connection must be closed. Wakes the reader when that changes.
    pub fn ends_reader(&self, context: &Context<'_>) -> bool {
        self.0.state.is_evicted(&self.0.state.reader, context)
    }

    /// Whether the connection must be closed. Wakes the writer when that changes.
    pub fn ends_writer(&self, context: &Context<'_>) -> bool {
        self.0.state.is_evicted(&self.0.state.writer, context)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let Connection { state, table } = &self.0;
        let mut connections = table.connections();
        connections.open.remove(&state.rank());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn trust(guard: &ConnectionGuard) {
        let mut extensions = Extensions::new();
        extensions.insert(guard.connection().clone());
        Connection::trust(&extensions);
    }

    #[test]
    fn the_oldest_without_a_token_goes_and_those_with_one_go_last() {
        let table = Arc::new(ConnectionTable::new(3));
        let ended = |guard: &ConnectionGuard| guard.ends_reader(&context()) && guard.ends_writer(&context());
        let first = table.admit();
        trust(&first);
        let second = table.admit();
        let third = table.admit();
        assert_eq!((table.open(), table.evicted()), (3, 0));
        let fourth = table.admit();
        assert_eq!([&first, &second, &third, &fourth].map(ended), [false, true, false, false]);
        trust(&second);
        assert_eq!((table.open(), table.evicted()), (3, 1), "a closed connection is not added again");
        drop(second);
        assert_eq!(table.open(), 3);
        trust(&third);
        trust(&fourth);
        let fifth = table.admit();
        assert_eq!([&first, &third, &fourth, &fifth].map(ended), [true, false, false, false]);
        drop((first, third, fourth, fifth));
        assert_eq!(table.open(), 0);
    }

    #[test]
    fn a_crowd_never_grows_beyond_its_most_and_the_newest_is_in() {
        let table = Arc::new(ConnectionTable::new(100));
        let guards: Vec<ConnectionGuard> = (0..10_000).map(|_| table.admit()).collect();
        assert_eq!((table.open(), table.evicted()), (100, 9_900));
        assert!(guards.iter().rev().take(100).all(|guard| !guard.ends_reader(&context())));
        assert!(guards.iter().rev().skip(100).all(|guard| guard.ends_reader(&context())));
    }
}
