//! The kinds of routes of the console.

/// Kind of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteKind {
    /// A page that a person opens.
    Page,
    /// The target of a form.
    Form,
    /// A part of a page that the script loads without user action.
    Live,
}
