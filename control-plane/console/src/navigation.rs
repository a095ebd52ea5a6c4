//! The navigation: the sections of the console.

use omniflow_domain::access::{Access, OWNER, READ};

/// A part of the pages, with a line in the navigation.
pub(super) struct Section {
    /// The path of its first page. All others are below.
    pub(super) path: &'static str,
    /// What it is called.
    pub(super) label: &'static str,
    /// Under which heading it stands.
    pub(super) group: &'static str,
    /// Who sees it.
    pub(super) access: Access,
}

/// All sections, in the order of the navigation. The first that a reader may see is the front page.
pub(super) const SECTIONS: &[Section] = &[
    Section { path: "/keys", label: "API keys", group: "Settings", access: READ },
    Section { path: "/tokens", label: "Tokens", group: "Settings", access: OWNER },
    Section { path: "/settings", label: "Installation", group: "Settings", access: READ },
    Section { path: "/audit", label: "Audit", group: "Activity", access: READ },
    Section { path: "/anomalies", label: "Anomalies", group: "Activity", access: READ },
    Section { path: "/admin-log", label: "Admin log", group: "Activity", access: READ },
    Section { path: "/policy", label: "Policy", group: "Enforcement", access: READ },
    Section { path: "/gateways", label: "Gateways", group: "Enforcement", access: READ },
];
