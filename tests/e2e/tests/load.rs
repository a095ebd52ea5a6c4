//! Load: clients that keep their connections, and open another where one was closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use omniflow_harness::{Call, Connection};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// Between two attempts to connect to an Envoy that does not listen.
const PAUSE: Duration = Duration::from_millis(5);

/// Clients at work.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    began: Instant,
    clients: Vec<JoinHandle<u64>>,
}

/// The outcome.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    /// Calls that received a response with any status.
    pub(crate) answered: u64,
    /// How long it took.
    pub(crate) took: Duration,
}

// === impl Load ===

impl Load {
    /// This many clients, each over its own connection, make this call repeatedly, together at most `rate` times per
    /// second.
    pub(crate) fn start(port: u16, clients: u32, rate: u32, call: &Call) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let period = Duration::from_secs(1) * clients / rate;
        let clients =
            (0..clients).map(|_| tokio::spawn(repeat(port, period, call.clone(), Arc::clone(&stop))));
        Self { clients: clients.collect(), stop, began: Instant::now() }
    }

    /// Lets each client end the call that it is at.
    pub(crate) async fn stop(self) -> Done {
        self.stop.store(true, Ordering::Relaxed);
        let took = self.began.elapsed();
        let mut answered = 0;
        for client in self.clients {
            answered += client.await.unwrap();
        }
        Done { answered, took }
    }
}

// === impl Done ===

impl Done {
    /// Calls a second.
    pub(crate) fn rate(&self) -> f64 {
        self.answered as f64 / self.took.as_secs_f64()
    }
}

async fn repeat(port: u16, period: Duration, call: Call, stop: Arc<AtomicBool>) -> u64 {
    let mut answered = 0;
    let mut connection = None;
    // The pace: who was late catches up.
    let mut pace = tokio::time::interval(period);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let mut open = match connection.take() {
            Some(open) => open,
            None => match Connection::http1(port).await {
                Ok(open) => open,
                Err(_) => {
                    // A listener that is being replaced refuses for a moment: not to be stormed. Nothing waits for this.
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        // A connection that was closed with a response fails at the next call, which Envoy then never receives.
        if open.call(call.clone()).await.is_ok() {
            answered += 1;
            connection = Some(open);
        }
    }
    answered
}
