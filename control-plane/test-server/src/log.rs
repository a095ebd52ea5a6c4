//! The log of a test.

use std::fmt::{self, Write as _};
use std::sync::{Arc, LazyLock, Mutex};

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// The fields of all warnings of this thread, as text.
#[derive(Clone, Default)]
pub struct Warnings(Arc<Mutex<String>>);

impl Warnings {
    /// Gathers them from now on, until the guard goes.
    pub fn gather() -> (Self, DefaultGuard) {
        let warnings = Self::default();
        let logging = log_to(tracing_subscriber::registry().with(warnings.clone()));
        (warnings, logging)
    }

    /// The warnings so far, one a line.
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

/// Gives this thread's events to a subscriber, until the guard goes.
///
/// While a process has one subscriber, the thread that comes to an event first decides for all whether it is of interest, by
/// whether that very thread has it. Of two, both are asked: so there is always another.
pub fn log_to(subscriber: impl tracing::Subscriber + Send + Sync + 'static) -> DefaultGuard {
    static ANOTHER: LazyLock<tracing::Dispatch> =
        LazyLock::new(|| tracing::Dispatch::new(tracing_subscriber::registry()));
    LazyLock::force(&ANOTHER);
    tracing::subscriber::set_default(subscriber)
}
