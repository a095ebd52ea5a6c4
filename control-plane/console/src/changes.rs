//! Field-by-field changes of an admin event, formatted for several pages.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// A changed field with its values before and after.
pub(super) struct Changed {
    pub(super) name: String,
    pub(super) before: String,
    pub(super) after: String,
}

/// The differences between two states in the admin log.
pub(super) fn changes(before: Option<&Value>, after: Option<&Value>) -> Vec<Changed> {
    let none = Map::new();
    let fields = |value: Option<&Value>| value.and_then(Value::as_object).cloned();
    let (before, after) = (fields(before), fields(after));
    let (before, after) = (before.as_ref().unwrap_or(&none), after.as_ref().unwrap_or(&none));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = |name: &String| Changed {
        name: name.replace('_', " "),
        before: format_value(name, before.get(name)),
        after: format_value(name, after.get(name)),
    };
    names.into_iter().map(changed).collect()
}

/// Formats a value of such a state.
pub(super) fn format_value(name: &str, value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) if items.is_empty() => "none".to_owned(),
        Some(Value::Array(items)) if name == "versions" => {
            items.iter().map(version).collect::<Vec<_>>().join(", ")
        }
        Some(Value::Array(items)) => {
            items.iter().map(|item| format_value(name, Some(item))).collect::<Vec<_>>().join(", ")
        }
        Some(Value::Object(fields)) => {
            let stated = fields.iter().filter(|(_, value)| !value.is_null());
            let part = |(name, value): (&String, &Value)| {
                format!("{} {}", format_value(name, Some(value)), name.replace('_', " "))
            };
            stated.map(part).collect::<Vec<_>>().join(", ")
        }
        Some(other) => other.to_string(),
    }
}

/// A version of a key: its number, and when it ends or was revoked.
fn version(item: &Value) -> String {
    let number = item.get("id").map(ToString::to_string).unwrap_or_default();
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    match (text("revoked_at"), text("expires_at")) {
        (Some(time), _) => format!("{number} (revoked {time})"),
        (None, Some(time)) => format!("{number} (until {time})"),
        (None, None) => number,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_formatted_as_text() {
        for (name, value, expected) in [
            ("description", json!(null), "none"),
            ("description", json!("nightly"), "nightly"),
            ("scopes", json!([]), "none"),
            ("scopes", json!(["a:read", "b:write"]), "a:read, b:write"),
            ("rate_limit", json!({"per_minute": 5, "per_hour": null, "burst": 9}), "9 burst, 5 per minute"),
            (
                "versions",
                json!([{"id": 1, "revoked_at": "x", "expires_at": null}, {"id": 2, "revoked_at": null, "expires_at": "y"}, {"id": 3}]),
                "1 (revoked x), 2 (until y), 3",
            ),
            ("version", json!(4), "4"),
        ] {
            assert_eq!(format_value(name, Some(&value)), expected);
        }
        let changed = changes(Some(&json!({"a_b": 1})), Some(&json!({"a_b": 2, "c": "x"})));
        let reported: Vec<_> = changed.iter().map(|one| (&*one.name, &*one.before, &*one.after)).collect();
        assert_eq!(reported, [("a b", "1", "2"), ("c", "none", "x")]);
        assert!(changes(None, None).is_empty());
    }
}
