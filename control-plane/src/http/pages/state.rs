//! The state of the console that no use case has.

use tokio::sync::Semaphore;

/// Large forms that are read at once without a session. A form that is sent after its session has ended is not lost; but
/// nobody without a session can fill the memory.
pub(super) const MAX_LARGE_FORMS: usize = 8;

/// The state of the console.
#[derive(Debug)]
pub(crate) struct ConsoleState {
    /// The effective settings of this process, for the settings page.
    pub(super) settings: Vec<EffectiveSetting>,
    /// Whether connections are accepted over TLS only.
    pub(super) serves_tls: bool,
    /// One permit for each large form that is read without a session.
    pub(super) large_forms: Semaphore,
}

/// An effective setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EffectiveSetting {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its purpose.
    pub(crate) meaning: &'static str,
    /// Its value; `None` if it has none.
    pub(crate) value: Option<String>,
    /// The origin of the value: a flag, a variable, a line of the file, or the default.
    pub(crate) source: String,
}

// === impl ConsoleState ===

impl ConsoleState {
    /// The state of a console with these settings.
    pub(crate) fn new(settings: Vec<EffectiveSetting>, serves_tls: bool) -> Self {
        Self { settings, serves_tls, large_forms: Semaphore::new(MAX_LARGE_FORMS) }
    }
}
