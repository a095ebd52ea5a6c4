//! The OpenAPI document: the registered operations with their access, and the definitions that they share.

use serde_json::{Map, Value, json};
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::SecurityRequirement;
use utoipa::{OpenApi, ToSchema};

use omniflow_api_types::problem::ProblemJson;
use omniflow_api_types::problem_code::HttpErrorCode;
use omniflow_api_types::problem_code::ProblemCode::{self, Http, UseCase};
use omniflow_api_types::schema;
use omniflow_domain::access::Access;
use omniflow_domain::error::ErrorCode;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Omniflow Keys control plane API",
        description = "API keys for services behind Envoy or Istio. Every error is a problem document (RFC 9457) with a \
            stable `code`. Unknown fields, and unknown or repeated query parameters, are rejected. An empty query \
            parameter counts as absent.",
        version = "1",
    ),
    // Schemas that only parameters use.
    components(schemas(
        ProblemJson,
        schema::Code,
        schema::Cursor,
        schema::Dimensions,
        schema::ExportFormat,
        schema::GrpcStatusFilter,
        schema::KeyOrder,
        schema::Network,
        schema::StatusFilter,
    )),
    tags(
        (name = "keys", description = "Create, list, update, rotate and revoke keys, and report leaked ones."),
        (name = "audit", description = "The audit log: a record of every call."),
        (name = "anomalies", description = "Anomalies in key usage."),
        (name = "policy", description = "Routes and scopes, and their versions."),
        (name = "gateways", description = "Gateways, and the versions they enforce."),
        (name = "tokens", description = "Tokens for this API."),
        (name = "admin log", description = "Changes by admins, with the state before and after."),
        (name = "health", description = "Liveness, readiness and metrics."),
    )
)]
struct Common;

/// The name of the security scheme.
const TOKEN: &str = "token";

/// Error responses that several endpoints share.
const COMMON: &[Answer] = &[
    Answer {
        status: "400",
        name: "BadRequest",
        codes: &[
            UseCase(ErrorCode::InvalidJson),
            UseCase(ErrorCode::InvalidToml),
            Http(HttpErrorCode::InvalidQuery),
            Http(HttpErrorCode::InvalidHeader),
            Http(HttpErrorCode::BodyIncomplete),
        ],
        when: "the body, the query string or a header is malformed",
    },
    Answer {
        status: "401",
        name: "Unauthenticated",
        codes: &[UseCase(ErrorCode::Unauthenticated)],
        when: "the request has no valid token",
    },
    Answer {
        status: "403",
        name: "Forbidden",
        codes: &[UseCase(ErrorCode::Forbidden)],
        when: "the token's role does not permit this request",
    },
    Answer {
        status: "404",
        name: "NotFound",
        codes: &[UseCase(ErrorCode::NotFound)],
        when: "the object does not exist",
    },
    Answer {
        status: "412",
        name: "VersionMismatch",
        codes: &[UseCase(ErrorCode::VersionMismatch)],
        when: "the object has changed since the revision in `If-Match`",
    },
    Answer {
        status: "413",
        name: "BodyTooLarge",
        codes: &[Http(HttpErrorCode::BodyTooLarge)],
        when: "the body exceeds the maximum size for the endpoint",
    },
    Answer {
        status: "415",
        name: "UnsupportedMediaType",
        codes: &[Http(HttpErrorCode::UnsupportedMediaType)],
        when: "the endpoint does not accept this `Content-Type`",
    },
    Answer {
        status: "422",
        name: "InvalidField",
        codes: &[UseCase(ErrorCode::InvalidField), UseCase(ErrorCode::IdempotencyKeyReused)],
        when: "a value is well-formed but not accepted",
    },
    Answer {
        status: "429",
        name: "TooManyAttempts",
        codes: &[UseCase(ErrorCode::TooManyAttempts)],
        when: "too many requests without a valid token came from this address. Requests with a valid token are not delayed",
    },
    Answer {
        status: "500",
        name: "InternalError",
        codes: &[UseCase(ErrorCode::InternalError)],
        when: "the control plane failed to process the request. See its log for the reason",
    },
    Answer {
        status: "503",
        name: "NotReady",
        codes: &[UseCase(ErrorCode::NotReady), UseCase(ErrorCode::Busy)],
        when: "the control plane is starting, or cannot process the request at the moment. `detail` states the cause",
    },
];

struct Answer {
    status: &'static str,
    name: &'static str,
    codes: &'static [ProblemCode],
    when: &'static str,
}

/// The document before any operation is registered.
pub(super) fn without_operations() -> utoipa::openapi::OpenApi {
    Common::openapi()
}

/// Adds the roles that may call an operation.
pub(super) fn state_access(operation: &mut Operation, access: Access) {
    let Access::Roles(roles) = access else { return };
    let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    let listed = match roles.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        roles => roles.concat(),
    };
    let stated = format!("Required role: {listed}.");
    operation.description = Some(match operation.description.take() {
        Some(text) if !text.is_empty() => format!("{text}\n\n{stated}"),
        _ => stated,
    });
    operation.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], _>(TOKEN, [])]);
    operation
        .extensions
        .get_or_insert_default()
        .merge(Extensions::from_iter([("x-required-roles", json!(roles))]));
}

/// The complete document, from the one that the router collected.
pub(super) fn complete(collected: utoipa::openapi::OpenApi) -> Value {
    let mut document = serde_json::to_value(collected).unwrap_or_default();
    for path in object_at(&mut document, "/paths") {
        object_at(path, "").for_each(complete_operation);
    }
    if let Some(Value::Object(schemas)) = document.pointer_mut("/components/schemas") {
        schemas.iter_mut().for_each(|(name, schema)| tidy(name, schema));
    }
    let responses = COMMON.iter().map(|answer| (answer.name.to_owned(), answer.body())).collect();
    put(&mut document, "/components", "responses", responses);
    let token = json!({
        "type": "http", "scheme": "bearer",
        "description": "Token for the control plane, such as the owner's token in `<data-dir>/admin-token`.",
    });
    put(&mut document, "/components", "securitySchemes", json!({TOKEN: token}));
    document
}

/// Sets a member of the object at a pointer.
fn put(value: &mut Value, pointer: &str, name: &str, member: Value) {
    if let Some(Value::Object(object)) = value.pointer_mut(pointer) {
        object.insert(name.to_owned(), member);
    }
}

/// The values of the object at a pointer.
fn object_at<'a>(value: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    value.pointer_mut(pointer).and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut)
}

/// Adds the shared error responses to an operation, and drops the full stop of its summary, which is a title.
fn complete_operation(operation: &mut Value) {
    let responses = common(operation);
    if let Some(Value::String(summary)) = operation.get_mut("summary") {
        summary.truncate(summary.trim_end_matches('.').len());
    }
    for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        if parameter.get("in").is_some_and(|place| place == "query") {
            put(parameter, "", "allowEmptyValue", json!(true));
        }
    }
    // A body that may be omitted still must not be null.
    let body = "/requestBody/content/application~1json";
    if let Some(stated) = operation.pointer(&format!("{body}/schema/oneOf/0")).cloned() {
        put(operation, body, "schema", stated);
    }
    let Some(Value::Object(own)) = operation.get_mut("responses") else { return };
    for (status, response) in own.iter_mut() {
        if status.as_str() >= "400" {
            put(response, "", "content", problem_content());
        }
        describe_headers(status, response);
    }
    for answer in responses {
        own.entry(answer.status)
            .or_insert_with(|| json!({"$ref": format!("#/components/responses/{}", answer.name)}));
    }
}

/// The shared error responses of an operation.
fn common(operation: &Value) -> Vec<&'static Answer> {
    let takes = |place: &str, name: &str| {
        let mut parameters = operation.get("parameters").and_then(Value::as_array).into_iter().flatten();
        parameters.any(|one| {
            one.get("in").is_some_and(|found| found == place)
                && (name.is_empty() || one.get("name").is_some_and(|found| found == name))
        })
    };
    let has_body = operation.get("requestBody").is_some();
    let needs_token = operation.get("security").is_some();
    let gives = |answer: &&Answer| match answer.status {
        "400" => has_body || takes("query", "") || takes("header", "Idempotency-Key"),
        "401" | "403" | "429" => needs_token,
        "404" => takes("path", ""),
        "412" => takes("header", "If-Match"),
        "413" | "415" | "422" => has_body,
        "503" => needs_token || operation.get("operationId").is_some_and(|id| id == "readyz"),
        _ => true,
    };
    COMMON.iter().filter(gives).collect()
}

/// Describes the headers of a response. A 201 has a location, and may be the replayed response of an earlier request.
fn describe_headers(status: &str, response: &mut Value) {
    let text = |description: &str, required: bool| json!({"description": description, "required": required, "schema": {"type": "string"}});
    if response.pointer("/headers/ETag").is_some() {
        put(
            response,
            "/headers",
            "ETag",
            text("Revision of the object. Send it as `If-Match` with a change.", true),
        );
    }
    if status == "201" {
        if response.get("headers").is_none() {
            put(response, "", "headers", json!({}));
        }
        put(response, "/headers", "Location", text("URL of the created object.", true));
        let replayed = text(
            "`true` if this is the response to an earlier request with the same `Idempotency-Key`.",
            false,
        );
        put(response, "/headers", "Idempotency-Replayed", replayed);
    }
}

/// Closes the schemas of objects with named fields to other fields, and refers to the schema of the items of a page.
fn tidy(name: &str, schema: &mut Value) {
    if schema.get("properties").is_some() {
        put(schema, "", "additionalProperties", json!(false));
    } else if schema.get("allOf").is_some() {
        put(schema, "", "unevaluatedProperties", json!(false));
    }
    if let Some(item) = name.strip_prefix("Page_") {
        put(schema, "/properties/items", "items", json!({"$ref": format!("#/components/schemas/{item}")}));
    }
}

fn problem_content() -> Value {
    let schema = format!("#/components/schemas/{}", ProblemJson::name());
    json!({"application/problem+json": {"schema": {"$ref": schema}}})
}

// === impl Answer ===

impl Answer {
    /// The response as a component of the document.
    fn body(&self) -> Value {
        let codes: Vec<String> = self.codes.iter().map(|code| format!("`{}`", code.as_str())).collect();
        let description = format!("{}: {}.", codes.join(", "), self.when);
        let mut body = Map::from_iter([
            ("description".to_owned(), json!(description)),
            ("content".to_owned(), problem_content()),
        ]);
        let header = |name: &str, description: &str| json!({name: {"description": description, "required": true, "schema": {"type": "string"}}});
        match self.status {
            "401" => {
                body.insert("headers".to_owned(), header("WWW-Authenticate", "`Bearer realm=\"omniflow\"`"))
            }
            "429" | "503" => body.insert(
                "headers".to_owned(),
                header("Retry-After", "Seconds to wait before the next attempt."),
            ),
            _ => None,
        };
        Value::Object(body)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::tests::{Endpoint, api_of, endpoints_of, table};
    use omniflow_test_server::TestServer;

    async fn document() -> Value {
        complete(crate::endpoints(api_of(&TestServer::new().await)).into_parts().1)
    }

    fn operations(document: &Value) -> Vec<(&String, &String, &Value)> {
        let paths = document["paths"].as_object().unwrap().iter();
        paths
            .flat_map(|(path, item)| {
                item.as_object().unwrap().iter().map(move |(method, operation)| (path, method, operation))
            })
            .collect()
    }

    #[tokio::test]
    async fn the_document_is_the_one_in_the_golden_file() {
        let text = serde_json::to_string_pretty(&document().await).unwrap();
        omniflow_golden::check("openapi.json", &format!("{text}\n"));
    }

    #[tokio::test]
    async fn only_gateway_endpoints_and_the_documentation_itself_are_omitted() {
        let key = |Endpoint { method, path, roles }: Endpoint| (path, method.to_string(), roles);
        let mut expected: BTreeSet<_> = table(&TestServer::new().await).into_iter().map(key).collect();
        expected.retain(|(path, _, _)| {
            !["/gateway/", "/docs", "/openapi.json"].iter().any(|other| path.starts_with(other))
        });
        let found: BTreeSet<_> = endpoints_of(&document().await).into_iter().map(key).collect();
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn every_operation_has_a_name_a_summary_and_known_references() {
        let document = document().await;
        let mut names = BTreeSet::new();
        for (path, method, operation) in operations(&document) {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name), "{name} stands twice");
            let summary = operation["summary"].as_str().unwrap();
            let verb = summary.split(' ').next().unwrap();
            assert!(
                !verb.ends_with('s') && !summary.ends_with('.'),
                "not imperative: {method} {path}: {summary}"
            );
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(parameter["description"].is_string(), "{method} {path}: {parameter}");
            }
        }
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
        assert!(
            !text.contains("http://") && !text.contains("localhost"),
            "nothing of this machine or of others"
        );
    }
}
