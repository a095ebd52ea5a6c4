//! The generated sections of the pages about the HTTP API in `docs/reference`.

mod operations;
mod schemas;

use std::collections::BTreeSet;

use omniflow_api_types::problem_code::ProblemCode;
use omniflow_golden::{markdown, reference};
use omniflow_policy::denial::Denial;
use omniflow_test_server::TestServer;
use serde_json::Value;

use super::{Endpoint, api_of, table};

#[tokio::test]
async fn reference_lists_every_operation() {
    let server = TestServer::new().await;
    let document = crate::openapi::complete(crate::endpoints(api_of(&server)).into_parts().1);
    let mut sections = operations::sections(&document);
    sections.push(("endpoints".to_owned(), endpoints(&document, table(&server))));
    sections.push(("objects".to_owned(), schemas::objects(&document)));
    sections.push(("values".to_owned(), schemas::values(&document)));
    reference::check("http-api.md", &sections);
}

#[tokio::test]
async fn reference_has_a_heading_for_every_endpoint_of_gateways() {
    let text = include_str!("../../../../../docs/reference/gateway-protocol.md");
    let headings: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`')).collect();
    let endpoints = table(&TestServer::new().await);
    let gateway = endpoints.iter().filter(|endpoint| is_for_gateways(endpoint));
    let expected: Vec<String> =
        gateway.map(|endpoint| format!("{} {}", endpoint.method, endpoint.path)).collect();
    assert_eq!(headings, expected.iter().map(String::as_str).collect());
}

#[test]
fn reference_lists_every_error_code() {
    let code = |text: &str| format!("`{text}`");
    let denials = Denial::ALL.map(|denial| {
        let (http, grpc) = (denial.status().to_string(), denial.grpc_status().to_string());
        vec![code(denial.code()), http, grpc, denial.detail().to_owned()]
    });
    let problems: Vec<Vec<String>> = ProblemCode::all()
        .map(|one| vec![one.status().to_string(), code(one.as_str()), one.meaning().to_owned()])
        .collect();
    reference::check(
        "error-codes.md",
        &[
            ("gateway".to_owned(), markdown::table(&["code", "HTTP", "gRPC", "`detail`"], &denials)),
            ("api".to_owned(), markdown::table(&["status", "code", "meaning"], &problems)),
        ],
    );
}

#[test]
fn reference_states_the_cause_of_every_refusal() {
    let text = include_str!("../../../../../docs/reference/error-codes.md");
    let rows = text.lines().skip_while(|line| *line != "| code | cause | what to do |").skip(2);
    let codes: Vec<&str> = rows.map_while(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(codes, Denial::ALL.map(Denial::code));
}

fn is_for_gateways(endpoint: &Endpoint) -> bool {
    endpoint.path.starts_with("/gateway/")
}

/// The table of all endpoints, in the order in which they are registered: the document's, then the others.
fn endpoints(document: &Value, endpoints: Vec<Endpoint>) -> String {
    // Files of the browsable documentation.
    let shown = endpoints.into_iter().filter(|endpoint| !endpoint.path.starts_with("/docs/"));
    let rows = shown.map(|endpoint| {
        let Endpoint { method, path, roles } = &endpoint;
        let operation = &document["paths"][path][method.as_str().to_lowercase()];
        let name = format!("{method} {path}");
        let cell = match (operation.is_object(), is_for_gateways(&endpoint)) {
            (true, _) => format!("[`{name}`](#{})", anchor(&name)),
            (false, true) => format!("[`{name}`](gateway-protocol.md#{})", anchor(&name)),
            (false, false) => format!("`{name}`"),
        };
        let summary = match (operation["summary"].as_str(), path.as_str()) {
            (Some(summary), _) => summary.trim_end_matches('.').to_owned(),
            (None, "/openapi.json") => "The OpenAPI document".to_owned(),
            (None, "/docs") => "The OpenAPI document, in a browser".to_owned(),
            (None, _) => "See [Gateway protocol](gateway-protocol.md)".to_owned(),
        };
        let roles = if roles.is_empty() { "none".to_owned() } else { roles.join(", ") };
        vec![cell, roles, summary]
    });
    markdown::table(&["endpoint", "roles", "description"], &rows.collect::<Vec<_>>())
}

/// The anchor that mdBook and GitHub give a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}
