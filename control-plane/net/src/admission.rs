//! How many connections are open at once, and which of them goes when there are too many.
//!
//! Anybody can open connections and send next to nothing over them. Time limits end each of them, but many can be there
//! at any moment, and each takes a file of this process. So there is a most. When it is reached, the next connection is
//! accepted nevertheless, and the oldest on which no valid token was shown is ended for it. Whoever has a token needs
//! milliseconds to show it, in which nobody opens thousands; who has shown it stays. Addresses play no part: an admin's
//! may be the attacker's, behind a proxy or a NAT.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use axum::http::Extensions;
use tokio::time::Instant;

/// Interval of the warning that connections are closed.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The open connections.
#[derive(Debug)]
pub struct Admission {
    max: usize,
    table: Mutex<ConnectionTable>,
    evicted: AtomicU64,
}

#[derive(Debug, Default)]
struct ConnectionTable {
    next: u64,
    /// In the order in which they go.
    open: BTreeMap<Rank, Arc<State>>,
    last_warned: Option<Instant>,
}

/// Those without a valid token go first, and the oldest of them.
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

/// An open connection, as the calls on it know it.
#[derive(Clone, Debug)]
pub struct Connection {
    state: Arc<State>,
    admission: Arc<Admission>,
}

/// An open connection. Dropped, it is closed.
#[derive(Debug)]
pub struct ConnectionGuard(Connection);

// === impl Admission ===

impl Admission {
    /// At most so many at once.
    pub fn new(max: usize) -> Self {
        Self { max: max.max(1), table: Mutex::default(), evicted: AtomicU64::default() }
    }

    /// Lets a connection in, and ends another if it is one too many.
    pub fn admit(self: &Arc<Self>) -> ConnectionGuard {
        let mut table = self.table();
        let mut should_warn = false;
        while table.open.len() >= self.max {
            let Some((_, state)) = table.open.pop_first() else { break };
            state.evict();
            self.evicted.fetch_add(1, Ordering::Relaxed);
            let now = Instant::now();
            should_warn |= table.last_warned.is_none_or(|last| now.duration_since(last) >= WARNING_INTERVAL);
            if should_warn {
                table.last_warned = Some(now);
            }
        }
        let state = Arc::new(State {
            number: table.next,
            trusted: AtomicBool::new(false),
            evicted: AtomicBool::new(false),
            reader: Mutex::default(),
            writer: Mutex::default(),
        });
        table.next += 1;
        table.open.insert(state.rank(), Arc::clone(&state));
        drop(table);
        if should_warn {
            tracing::warn!(
                max = self.max,
                "there are too many connections: the oldest that have shown no valid token are ended"
            );
        }
        ConnectionGuard(Connection { state, admission: Arc::clone(self) })
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.table().open.len()
    }

    /// How many were ended because there were too many.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    fn table(&self) -> MutexGuard<'_, ConnectionTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
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
        // Noted before it is looked at: whoever evicts in between wakes it.
        let mut noted = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !noted.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *noted = Some(context.waker().clone());
        }
        self.evicted.load(Ordering::Acquire)
    }
}

// === impl Connection ===

impl Connection {
    /// A valid token was shown on the connection of this request. It goes after all on which none was.
    pub fn trust(extensions: &Extensions) {
        // A request that was never on a connection, as in tests, has none.
        if let Some(Self { state, admission }) = extensions.get::<Self>()
            && !state.trusted.load(Ordering::Acquire)
        {
            let mut table = admission.table();
            let known = table.open.remove(&state.rank());
            state.trusted.store(true, Ordering::Release);
            // One that is being ended does not come back.
            if let Some(known) = known {
                table.open.insert(state.rank(), known);
            }
        }
    }

    /// Whether a valid token was shown.
    pub fn is_trusted(&self) -> bool {
        self.state.trusted.load(Ordering::Acquire)
    }
}

// === impl ConnectionGuard ===

impl ConnectionGuard {
    /// For the calls on this connection.
    pub fn connection(&self) -> &Connection {
        &self.0
    }

    /// Whether it is to end. Whoever reads is woken when it is.
    pub fn ends_reader(&self, context: &Context<'_>) -> bool {
        self.0.state.is_evicted(&self.0.state.reader, context)
    }

    /// Whether it is to end. Whoever writes is woken when it is.
    pub fn ends_writer(&self, context: &Context<'_>) -> bool {
        self.0.state.is_evicted(&self.0.state.writer, context)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let Connection { state, admission } = &self.0;
        let mut table = admission.table();
        table.open.remove(&state.rank());
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
        let admission = Arc::new(Admission::new(3));
        let ended = |guard: &ConnectionGuard| guard.ends_reader(&context()) && guard.ends_writer(&context());
        let first = admission.admit();
        trust(&first);
        let second = admission.admit();
        let third = admission.admit();
        assert_eq!((admission.open(), admission.evicted()), (3, 0));
        let fourth = admission.admit();
        assert_eq!([&first, &second, &third, &fourth].map(ended), [false, true, false, false]);
        trust(&second);
        assert_eq!((admission.open(), admission.evicted()), (3, 1), "one that is ended does not come back");
        drop(second);
        assert_eq!(admission.open(), 3);
        trust(&third);
        trust(&fourth);
        let fifth = admission.admit();
        assert_eq!([&first, &third, &fourth, &fifth].map(ended), [true, false, false, false]);
        drop((first, third, fourth, fifth));
        assert_eq!(admission.open(), 0);
    }

    #[test]
    fn a_crowd_never_grows_beyond_its_most_and_the_newest_is_in() {
        let admission = Arc::new(Admission::new(100));
        let guards: Vec<ConnectionGuard> = (0..10_000).map(|_| admission.admit()).collect();
        assert_eq!((admission.open(), admission.evicted()), (100, 9_900));
        assert!(guards.iter().rev().take(100).all(|guard| !guard.ends_reader(&context())));
        assert!(guards.iter().rev().skip(100).all(|guard| guard.ends_reader(&context())));
    }
}
