//! API keys: listed, made, shown, changed, rotated and revoked.

mod list;

use super::Section;
use crate::http::access::{Endpoints, READ};
use crate::json::key::KeyVersionJson;

pub(super) const SECTION: Section =
    Section { path: "/keys", label: "API keys", group: "Settings", access: READ, endpoints };

/// How a person tells a secret from others: what it begins with, where this installation made it, and its hint.
fn version_hint(version: &KeyVersionJson, prefix: &str, environment: &str) -> String {
    if version.imported {
        format!("…{}", version.hint)
    } else {
        format!("{prefix}_{environment}_…{}", version.hint)
    }
}

fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints.page("/keys", READ, list::show)
}
