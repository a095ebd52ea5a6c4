//! A section for each operation of the OpenAPI document.

use omniflow_api_types::problem_code::HttpErrorCode;
use omniflow_api_types::problem_code::ProblemCode::{self, Http, UseCase};
use omniflow_domain::error::ErrorCode;
use omniflow_golden::markdown::{self, table};
use serde_json::Value;

use super::schemas::{fields, type_of, values_of};

/// Problems of every operation that requires a token. The page states them once.
const COMMON: [ProblemCode; 5] = [
    UseCase(ErrorCode::Unauthenticated),
    UseCase(ErrorCode::Forbidden),
    UseCase(ErrorCode::TooManyAttempts),
    UseCase(ErrorCode::InternalError),
    UseCase(ErrorCode::NotReady),
];

/// The sections by their names, such as `POST /v1/keys`.
pub(super) fn sections(document: &Value) -> Vec<(String, String)> {
    let paths = document["paths"].as_object().into_iter().flatten();
    let all = paths.flat_map(|(path, item)| {
        item.as_object().into_iter().flatten().map(move |(method, operation)| {
            let name = format!("{} {path}", method.to_uppercase());
            let text = section(document, &name, operation);
            (name, text)
        })
    });
    all.collect()
}

fn section(document: &Value, name: &str, operation: &Value) -> String {
    let mut text = format!("### `{name}`\n\n");
    let summary = operation["summary"].as_str().unwrap_or_default().trim_end_matches('.');
    text.push_str(&format!("{summary}.\n\n"));
    if let Some(description) = operation["description"].as_str() {
        text.push_str(&format!("{description}\n\n"));
    }
    if let Some(parameters) = operation["parameters"].as_array() {
        text.push_str(&format!("{}\n", parameters_of(document, parameters)));
    }
    text.push_str(&body(document, operation));
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        if status.as_str() < "400" {
            text.push_str(&response_line(document, status, response));
        }
    }
    text.push_str(&problems(document, operation));
    text
}

fn parameters_of(document: &Value, parameters: &[Value]) -> String {
    let row = |parameter: &Value| {
        let (name, place) = (parameter["name"].as_str().unwrap(), parameter["in"].as_str().unwrap());
        let required = if parameter["required"] == true && place != "path" { ". **Required**" } else { "" };
        let description = parameter["description"].as_str().unwrap_or_default().trim_end_matches('.');
        let values = values_of(document, &parameter["schema"], description);
        vec![
            format!("`{name}`"),
            place.to_owned(),
            type_of(document, &parameter["schema"]),
            format!("{description}{values}{required}"),
        ]
    };
    table(&["parameter", "in", "type", "description"], &parameters.iter().map(row).collect::<Vec<_>>())
}

fn body(document: &Value, operation: &Value) -> String {
    let Some(content) = operation["requestBody"]["content"].as_object() else { return String::new() };
    let types: Vec<String> = content.keys().map(|name| format!("`{name}`")).collect();
    let optional = if operation["requestBody"]["required"] == true { "" } else { ", optional" };
    let mut text = format!("Request body: {}{optional}.\n\n", types.join(" or "));
    let schema = resolve(document, &content["application/json"]["schema"]);
    text.push_str(&format!("{}\n", fields(document, schema)));
    if schema["example"].is_object() {
        text.push_str(&format!(
            "```json\n{}\n```\n\n",
            serde_json::to_string_pretty(&schema["example"]).unwrap()
        ));
    }
    text
}

fn response_line(document: &Value, status: &str, response: &Value) -> String {
    let content = response["content"].as_object().into_iter().flatten();
    let types = content.map(|(media_type, content)| match media_type.as_str() {
        "application/json" => type_of(document, &content["schema"]),
        other => format!("`{other}`"),
    });
    let types = types.collect::<Vec<_>>().join(" or ");
    let types = if types.is_empty() { types } else { format!(", {types}") };
    let description = markdown::text(response["description"].as_str().unwrap_or_default());
    let names = response["headers"].as_object().into_iter().flatten().map(|(name, _)| format!("`{name}`"));
    let names: Vec<String> = names.collect();
    let headers = if names.is_empty() { String::new() } else { format!(" Headers: {}.", names.join(", ")) };
    format!("Response {status}{types}: {description}{headers}\n\n")
}

/// The codes of the problems that an operation can return, without those that all can.
fn problems(document: &Value, operation: &Value) -> String {
    let mut listed = Vec::new();
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        if status.as_str() < "400" {
            continue;
        }
        let description = resolve(document, response)["description"].as_str().unwrap_or_default();
        let words: Vec<&str> = description.split('`').skip(1).step_by(2).collect();
        let codes =
            ProblemCode::all().filter(|code| words.contains(&code.as_str()) && applies(*code, operation));
        let codes: Vec<String> = codes.map(|code| format!("`{}`", code.as_str())).collect();
        if !codes.is_empty() {
            listed.push(format!("{status} {}", codes.join(", ")));
        }
    }
    match listed.is_empty() {
        true => String::new(),
        false => format!("Problems: {}.\n\n", listed.join("; ")),
    }
}

/// Whether an operation can return a code of a response that several operations share, and not all.
fn applies(code: ProblemCode, operation: &Value) -> bool {
    let content = &operation["requestBody"]["content"];
    let has = |place: &str, name: &str| {
        let mut parameters = operation["parameters"].as_array().into_iter().flatten();
        parameters.any(|one| one["in"] == place && (name.is_empty() || one["name"] == name))
    };
    match code {
        UseCase(ErrorCode::InvalidJson) => content["application/json"].is_object(),
        UseCase(ErrorCode::InvalidToml) => content["application/toml"].is_object(),
        Http(HttpErrorCode::BodyIncomplete) => content.is_object(),
        Http(HttpErrorCode::InvalidQuery) => has("query", ""),
        Http(HttpErrorCode::InvalidHeader) => {
            has("header", "Idempotency-Key") || has("header", "Last-Event-ID")
        }
        UseCase(ErrorCode::IdempotencyKeyReused) => has("header", "Idempotency-Key"),
        UseCase(ErrorCode::Busy) => operation["operationId"].as_str().is_some_and(|id| id.contains("replay")),
        _ => !COMMON.contains(&code),
    }
}

/// The component that a reference names, or the value itself.
pub(super) fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    value["$ref"].as_str().and_then(|name| document.pointer(name.trim_start_matches('#'))).unwrap_or(value)
}
