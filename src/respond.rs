//! Refusals: problem documents (RFC 9457) for HTTP callers, statuses for gRPC callers, and the rate-limit headers.

use omniflow_policy::limit::LimitReport;
use omniflow_policy::outcome::Denial;
use omniflow_policy::scope::Scope;
use proxy_wasm::hostcalls;
use proxy_wasm::types::GrpcStatusCode;
use serde::Serialize;

use crate::host;

/// What a refusal tells beside its code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Details {
    /// The scope that would have been needed.
    pub(crate) required_scope: Option<Scope>,
    /// The limit that is used up: `minute` or `hour`.
    pub(crate) limit: Option<&'static str>,
    /// Seconds after which the caller gets through.
    pub(crate) retry_after: Option<u64>,
}

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

/// The answer to a refused HTTP caller.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// Answers the caller. At most once a stream: a second answer would leave it stuck.
pub(crate) fn refuse(denial: Denial, details: &Details, grpc: bool) {
    let sent = if grpc { refuse_grpc(denial, details) } else { refuse_http(denial, details) };
    if sent.is_err() {
        host::log(proxy_wasm::types::LogLevel::Error, "Envoy did not take a refusal");
    }
}

fn refuse_http(denial: Denial, details: &Details) -> Result<(), proxy_wasm::types::Status> {
    let refusal = http_refusal(denial, details);
    let headers = refusal.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    hostcalls::send_http_response(u32::from(refusal.status), headers, Some(&refusal.body))
}

fn http_refusal(denial: Denial, details: &Details) -> Refusal {
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
    Refusal { status: denial.status(), headers, body: serde_json::to_vec(&problem).unwrap_or_default() }
}

fn refuse_grpc(denial: Denial, details: &Details) -> Result<(), proxy_wasm::types::Status> {
    let retry_after = details.retry_after.map(|seconds| seconds.to_string());
    let mut metadata = vec![("omniflow-code", denial.code().as_bytes())];
    if let Some(seconds) = &retry_after {
        metadata.push(("retry-after", seconds.as_bytes()));
    }
    let message = format!("{}: {}", denial.code(), denial.detail());
    hostcalls::send_grpc_response(grpc_status(denial), Some(&message), metadata)
}

fn grpc_status(denial: Denial) -> GrpcStatusCode {
    match denial.grpc_status() {
        3 => GrpcStatusCode::InvalidArgument,
        7 => GrpcStatusCode::PermissionDenied,
        8 => GrpcStatusCode::ResourceExhausted,
        16 => GrpcStatusCode::Unauthenticated,
        _ => GrpcStatusCode::Unavailable,
    }
}

/// The challenge of a 401 (RFC 6750, section 3): without an error code where no credential was sent at all.
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

/// Tells an identified caller its limits. In the response headers callback only.
pub(crate) fn set_rate_limit_headers(report: &LimitReport) {
    let set = |name, value: u64| host::set_response_header(name, value.to_string().as_bytes());
    set("x-ratelimit-limit", u64::from(report.limit));
    set("x-ratelimit-remaining", u64::from(report.remaining));
    set("x-ratelimit-reset", report.reset_seconds);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_golden() {
        // Callers build on these bodies and headers.
        let mut all = String::new();
        for denial in Denial::ALL {
            let details = match denial {
                Denial::InsufficientScope => {
                    Details { required_scope: "contacts:read".parse().ok(), ..Details::default() }
                }
                Denial::RateLimited => {
                    Details { limit: Some("minute"), retry_after: Some(7), ..Details::default() }
                }
                _ => Details::default(),
            };
            let refusal = http_refusal(denial, &details);
            all += &format!("{} grpc-status {}\n", refusal.status, denial.grpc_status());
            for (name, value) in &refusal.headers {
                all += &format!("{name}: {value}\n");
            }
            all += &format!("{}\n\n", String::from_utf8_lossy(&refusal.body));
        }
        assert_eq!(all, include_str!("../golden/refusals.txt"));
    }
}
