//! A key: its API path and its printed form.

use omniflow_api_types::key::{KeyJson, KeyVersionJson};

use crate::client::segment;
use crate::output::{Column, cell, cell_of_list, cell_or_none, table};

const VERSION_COLUMNS: &[Column<KeyVersionJson>] = &[
    ("VERSION", |version| cell(version.id)),
    ("HINT", |version| cell(&version.hint)),
    ("CREATED", |version| cell(version.created_at)),
    ("EXPIRES", |version| cell_or_none(version.expires_at)),
    ("REVOKED", |version| cell_or_none(version.revoked_at)),
    ("LAST USED", |version| cell_or_none(version.last_used_at)),
];

/// The path of a key, by its name or identifier.
pub(super) fn path(key: &str) -> String {
    format!("/v1/keys/{}", segment(key))
}

/// Formats all fields of a key.
pub(super) fn describe(key: &KeyJson) -> String {
    let limits = key.rate_limit;
    let limits = [
        limits.per_minute.map(|limit| format!("{limit} per minute")),
        limits.per_hour.map(|limit| format!("{limit} per hour")),
        limits.burst.map(|limit| format!("burst {limit}")),
    ];
    let limits = limits.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let mut text = String::new();
    for (heading, value) in [
        ("Name", cell(&key.name)),
        ("ID", cell(key.id)),
        ("Status", cell(key.status)),
        ("Environment", cell(key.environment)),
        ("Scopes", cell_of_list(key.scopes.iter())),
        ("Limits", limits),
        ("IP allowlist", cell_of_list(key.ip_allowlist.networks())),
        ("Description", cell_or_none(key.description.as_ref())),
        ("Created", format!("{} by {}", key.created_at, cell(&key.created_by))),
        ("Expires", cell_or_none(key.expires_at)),
        ("Last used", cell_or_none(key.last_used_at)),
        ("Rotation due", cell_or_none(key.rotation_due_at)),
        ("Revision", cell(key.revision)),
    ] {
        text.push_str(&format!("{heading:<12} {value}\n"));
    }
    text + "\n" + &table(&key.versions, VERSION_COLUMNS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::key;

    #[test]
    fn a_key_is_described_in_full() {
        let key: KeyJson =
            serde_json::from_value(key(json!({"description": "x\u{1b}[2J", "ip_allowlist": ["::1/128"]})))
                .unwrap();
        let text = describe(&key);
        for line in [
            "Name         ci",
            "Limits       60 per minute",
            "IP allowlist ::1/128",
            "Description  x\u{fffd}[2J",
            "Created      2027-01-15T08:00:00.000Z by owner",
            "Expires      -",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
    }
}
