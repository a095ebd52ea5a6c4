//! The sections of the console and their place in the navigation.

use omniflow_domain::access::{Access, OWNER, READ};

/// A group of pages with an entry in the navigation.
pub(super) struct Section {
    /// Path of its first page and prefix of all others.
    pub(super) path: &'static str,
    /// Label.
    pub(super) label: &'static str,
    /// Heading in the navigation.
    pub(super) group: &'static str,
    /// Roles that may open it.
    pub(super) access: Access,
}

/// All sections, in the order of the navigation. `/` redirects to the first.
pub(super) const SECTIONS: &[Section] = &[
    Section { path: "/keys", label: "API keys", group: "Settings", access: READ },
    Section { path: "/tokens", label: "Tokens", group: "Settings", access: OWNER },
    Section { path: "/settings", label: "Installation", group: "Settings", access: READ },
    Section { path: "/audit", label: "Audit log", group: "Activity", access: READ },
    Section { path: "/anomalies", label: "Anomalies", group: "Activity", access: READ },
    Section { path: "/admin-log", label: "Admin log", group: "Activity", access: READ },
    Section { path: "/policy", label: "Policy", group: "Enforcement", access: READ },
    Section { path: "/gateways", label: "Gateways", group: "Enforcement", access: READ },
];
