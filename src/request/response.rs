//! Rejections: problem documents (RFC 9457) over HTTP, statuses over gRPC. The text of each denial is
//! `Denial::detail` in `policy/src/denial.rs`.

use omniflow_policy::denial::Denial;
use omniflow_policy::scope::Scope;
use serde::Serialize;

use super::decide::DenialDetails;
use crate::host::{self, GrpcStatusCode};

/// The refusal of an HTTP request.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// The body of a refusal.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    required_scope: Option<&'a Scope>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

/// Rejects a request. At most once per request.
pub(super) fn refuse(denial: Denial, details: &DenialDetails, is_grpc: bool) {
    if is_grpc {
        return refuse_grpc(denial, details);
    }
    let refusal = Refusal::new(denial, details);
    let headers = refusal.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    host::send_http_response(refusal.status, headers, &refusal.body);
}

fn refuse_grpc(denial: Denial, details: &DenialDetails) {
    let retry_after = details.retry_after.map(|seconds| seconds.to_string());
    let mut metadata = vec![("omniflow-code", denial.code().as_bytes())];
    if let Some(seconds) = &retry_after {
        metadata.push(("retry-after", seconds.as_bytes()));
    }
    let message = format!("{}: {}", denial.code(), denial.detail());
    host::send_grpc_response(grpc_status(denial), &message, metadata);
}

/// The policy's status in the SDK's type.
fn grpc_status(denial: Denial) -> GrpcStatusCode {
    match denial.grpc_status() {
        3 => GrpcStatusCode::InvalidArgument,
        7 => GrpcStatusCode::PermissionDenied,
        8 => GrpcStatusCode::ResourceExhausted,
        16 => GrpcStatusCode::Unauthenticated,
        _ => GrpcStatusCode::Unavailable,
    }
}

// === impl Refusal ===

impl Refusal {
    fn new(denial: Denial, details: &DenialDetails) -> Self {
        let problem = Problem {
            r#type: "about:blank",
            title: title(denial.status()),
            status: denial.status(),
            code: denial.code(),
            detail: denial.detail(),
            required_scope: details.required_scope.as_ref(),
            limit: details.limit,
            retry_after: details.retry_after,
        };
        let mut headers = vec![
            ("content-type", "application/problem+json".to_owned()),
            ("cache-control", "no-store".to_owned()),
        ];
        if let Some(challenge) = challenge(denial) {
            headers.push(("www-authenticate", challenge));
        }
        if let Some(seconds) = details.retry_after {
            headers.push(("retry-after", seconds.to_string()));
        }
        Self { status: denial.status(), headers, body: serde_json::to_vec(&problem).unwrap_or_default() }
    }
}

/// The challenge of a 401 (RFC 6750, section 3). Without an error code if the request had no credential.
fn challenge(denial: Denial) -> Option<String> {
    const REALM: &str = r#"Bearer realm="omniflow""#;
    match denial {
        Denial::MissingCredentials => Some(REALM.to_owned()),
        denial if denial.status() == 401 => {
            Some(format!(r#"{REALM}, error="invalid_token", error_description="{}""#, denial.code()))
        }
        _ => None,
    }
}

fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        429 => "Too Many Requests",
        _ => "Service Unavailable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_match_the_golden_file() {
        // Clients depend on these bodies and headers.
        let mut all = String::new();
        for denial in Denial::ALL {
            let details = match denial {
                Denial::InsufficientScope => {
                    DenialDetails { required_scope: "contacts:read".parse().ok(), ..DenialDetails::default() }
                }
                Denial::RateLimited => {
                    DenialDetails { limit: Some("minute"), retry_after: Some(7), ..DenialDetails::default() }
                }
                _ => DenialDetails::default(),
            };
            let refusal = Refusal::new(denial, &details);
            assert_eq!(grpc_status(denial) as u32, u32::from(denial.grpc_status()));
            all += &format!("{} grpc-status {}\n", refusal.status, denial.grpc_status());
            for (name, value) in &refusal.headers {
                all += &format!("{name}: {value}\n");
            }
            all += &format!("{}\n\n", String::from_utf8_lossy(&refusal.body));
        }
        assert_eq!(all, include_str!("../../golden/refusals.txt"));
    }
}
