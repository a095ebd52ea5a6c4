//! The CEL expressions of the chart, parsed into the form that Envoy reads.
//!
//! Envoy Gateway parses expressions with cel-go and hands Envoy the syntax tree (`cel_expr_parsed`). This parser knows one form:
//! `filter_state['KEY'] == VALUE`, where the value is a string or bytes.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Parses an expression into a `cel.expr.ParsedExpr` in JSON.
///
/// # Errors
/// If the expression has another form.
pub fn parse(expression: &str) -> Result<Value> {
    let unknown = || format!("not of the form filter_state['KEY'] == VALUE: {expression}");
    let rest = expression.strip_prefix("filter_state['").with_context(unknown)?;
    let (key, value) = rest.split_once("'] == ").with_context(unknown)?;
    let constant = match value.strip_prefix("b'") {
        Some(bytes) => {
            json!({"bytes_value": STANDARD.encode(bytes.strip_suffix('\'').with_context(unknown)?)})
        }
        None => {
            let text = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
            json!({"string_value": text.with_context(unknown)?})
        }
    };
    let state = json!({"id": "3", "ident_expr": {"name": "filter_state"}});
    let key = json!({"id": "4", "const_expr": {"string_value": key}});
    let index = json!({"id": "2", "call_expr": {"function": "_[_]", "args": [state, key]}});
    let constant = json!({"id": "5", "const_expr": constant});
    Ok(json!({"expr": {"id": "1", "call_expr": {"function": "_==_", "args": [index, constant]}}}))
}
