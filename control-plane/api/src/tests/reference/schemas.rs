//! The schemas of the OpenAPI document: objects with their fields, and the types of single values.

use std::collections::BTreeSet;

use omniflow_golden::markdown::table;
use serde_json::Value;

use super::anchor;
use super::operations::resolve;

const COMPONENTS: &str = "#/components/schemas/";

/// A section for each object that is returned, or part of another.
pub(super) fn objects(document: &Value) -> String {
    let bodies = bodies(document);
    let schemas = document["components"]["schemas"].as_object().into_iter().flatten();
    let shown = schemas.filter(|(name, schema)| {
        is_object(schema) && !bodies.contains(name.as_str()) && !name.starts_with("Page_")
    });
    let sections = shown.map(|(name, schema)| {
        let description = schema["description"].as_str().unwrap_or_default();
        format!("### {name}\n\n{description}\n\n{}\n", fields(document, schema))
    });
    sections.collect()
}

/// The table of all types that are not objects.
pub(super) fn values(document: &Value) -> String {
    let schemas = document["components"]["schemas"].as_object().into_iter().flatten();
    let rows = schemas.filter(|(_, schema)| !is_object(schema)).map(|(name, schema)| {
        let description = schema["description"].as_str().unwrap_or_default().trim_end_matches('.');
        let pattern =
            schema["pattern"].as_str().map(|text| format!(". Pattern: `{text}`")).unwrap_or_default();
        vec![
            format!("<a id=\"{}\"></a>{name}", anchor(name)),
            plain_type(document, schema),
            format!("{description}{}{pattern}", limits(schema, description)),
        ]
    });
    table(&["type", "JSON type", "description"], &rows.collect::<Vec<_>>())
}

/// The fields of an object as a table: those that are required in the order of the schema, then the others.
pub(super) fn fields(document: &Value, schema: &Value) -> String {
    let parts: Vec<&Value> = flattened(document, schema);
    let required: Vec<&str> = parts
        .iter()
        .flat_map(|part| part["required"].as_array().into_iter().flatten())
        .filter_map(Value::as_str)
        .collect();
    let mut all: Vec<(&String, &Value)> =
        parts.iter().flat_map(|part| part["properties"].as_object().into_iter().flatten()).collect();
    let place = |name: &str| required.iter().position(|one| *one == name);
    all.sort_by_key(|(name, _)| place(name).unwrap_or(required.len()));
    let rows = all.into_iter().map(|(name, field)| {
        let optional = if place(name).is_some() { "" } else { ", optional" };
        let description = description(document, field);
        let values = values_of(document, field, &description);
        vec![
            format!("`{name}`"),
            format!("{}{optional}", type_of(document, field)),
            format!("{description}{values}"),
        ]
    });
    table(&["field", "type", "description"], &rows.collect::<Vec<_>>())
}

/// The parts of an object that is composed of others.
fn flattened<'a>(document: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    match resolve(document, schema)["allOf"].as_array() {
        Some(parts) => parts.iter().flat_map(|part| flattened(document, part)).collect(),
        None => vec![resolve(document, schema)],
    }
}

fn is_object(schema: &Value) -> bool {
    schema["properties"].is_object() || schema["allOf"].is_array()
}

/// The names of the schemas that are only request bodies.
fn bodies(document: &Value) -> BTreeSet<&str> {
    let paths = document["paths"].as_object().into_iter().flatten();
    let operations = paths.flat_map(|(_, item)| item.as_object().into_iter().flatten());
    let names = operations.filter_map(|(_, operation)| {
        operation
            .pointer("/requestBody/content/application~1json/schema/$ref")?
            .as_str()?
            .strip_prefix(COMPONENTS)
    });
    let schemas = document["components"]["schemas"].to_string();
    names.filter(|name| !schemas.contains(&format!("{COMPONENTS}{name}\""))).collect()
}

/// The type of a value, with a link if it has a section.
pub(super) fn type_of(document: &Value, schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix(COMPONENTS)) {
        return match name.strip_prefix("Page_") {
            Some(item) => format!("page of [{item}](#{})", anchor(item)),
            None => format!("[{name}](#{})", anchor(name)),
        };
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let types: Vec<String> = choices.iter().map(|one| type_of(document, one)).collect();
        return types.join(" or ");
    }
    plain_type(document, schema)
}

fn plain_type(document: &Value, schema: &Value) -> String {
    let names = match &schema["type"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        name => vec![name.as_str().unwrap_or("any")],
    };
    let items = || type_of(document, &schema["items"]);
    let names = names.into_iter().map(|name| match name {
        "array" => format!("array of {}", items()),
        name => name.to_owned(),
    });
    names.collect::<Vec<_>>().join(" or ")
}

/// The description of a field, or else that of its type.
fn description(document: &Value, field: &Value) -> String {
    let own = [&field["description"], &field["oneOf"][0]["description"]].into_iter().find_map(Value::as_str);
    let text = own.or_else(|| resolve(document, field)["description"].as_str()).unwrap_or_default();
    text.trim_end_matches('.').to_owned()
}

/// The values that a field accepts: of an enumeration, or between limits, unless the description names them.
pub(super) fn values_of(document: &Value, field: &Value, description: &str) -> String {
    let inner = if field["oneOf"].is_array() { &field["oneOf"][0] } else { field };
    let schema = resolve(document, inner);
    match schema["enum"].as_array() {
        // Long lists are in the table of values only.
        Some(values) if values.len() > 6 => String::new(),
        _ => limits(schema, description),
    }
}

/// An enumeration, or limits, as a sentence.
fn limits(schema: &Value, description: &str) -> String {
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> =
            values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`")).collect();
        let are_named = values.iter().all(|value| description.contains(value));
        return if are_named { String::new() } else { format!(". One of {}", values.join(", ")) };
    }
    let number = |name: &str| schema[name].as_u64();
    let between = match (number("minimum"), number("maximum")) {
        (Some(minimum), Some(maximum)) => format!(". {minimum} to {maximum}"),
        (None, Some(maximum)) => format!(". At most {maximum}"),
        (Some(minimum), None) if minimum > 0 => format!(". At least {minimum}"),
        _ => String::new(),
    };
    let length = match (number("minLength"), number("maxLength")) {
        (Some(minimum), Some(maximum)) if minimum == maximum => format!(". {minimum} characters"),
        (Some(minimum), Some(maximum)) => format!(". {minimum} to {maximum} characters"),
        (None, Some(maximum)) => format!(". At most {maximum} characters"),
        _ => String::new(),
    };
    let items = number("maxItems").map(|maximum| format!(". At most {maximum} items")).unwrap_or_default();
    between + &length + &items
}
