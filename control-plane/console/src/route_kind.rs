//! How browsers request the routes of the console.

/// How a browser requests a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteKind {
    /// Opened by its reader.
    Page,
    /// Sent by a form.
    Form,
    /// Loaded by the script of a page, without its reader doing anything.
    Live,
}
