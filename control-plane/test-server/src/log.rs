//! The log of a test.

use std::fmt::{self, Write as _};
use std::sync::{Arc, LazyLock, Mutex};

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// The fields of all warnings of this thread, as text.
#[derive(Clone, Default)]
pub struct Warnings(Arc<Mutex<String>>);

impl Warnings {
    /// Collects them from now on, until the guard is dropped.
    pub fn gather() -> (Self, DefaultGuard) {
        let warnings = Self::default();
        let logging = log_to(tracing_subscriber::registry().with(warnings.clone()));
        (warnings, logging)
    }

    /// The warnings so far, one per line.
    pub fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl<S: tracing::Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == tracing::Level::WARN {
            let mut text = self.0.lock().unwrap();
            event.record(&mut |field: &tracing::field::Field, value: &dyn fmt::Debug| {
                write!(text, "{field}={value:?} ").unwrap();
            });
            text.push('\n');
        }
    }
}

/// Passes this thread's events to a subscriber, until the guard is dropped.
///
/// If a process has only one subscriber, the thread that first reaches an event decides for all threads whether the
/// event is of interest, depending on whether that thread has the subscriber. With two subscribers, both are asked, so
/// there is always a second one.
pub fn log_to(subscriber: impl tracing::Subscriber + Send + Sync + 'static) -> DefaultGuard {
    static ANOTHER: LazyLock<tracing::Dispatch> =
        LazyLock::new(|| tracing::Dispatch::new(tracing_subscriber::registry()));
    LazyLock::force(&ANOTHER);
    tracing::subscriber::set_default(subscriber)
}
