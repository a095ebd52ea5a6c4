//! Refusals: problem documents (RFC 9457) for HTTP callers, statuses for gRPC callers, and the rate-limit headers.

use omniflow_policy::limit::LimitReport;
use omniflow_policy::outcome::Denial;
use omniflow_policy::scope::Scope;
use serde::Serialize;

use crate::abi::{self, LogLevel, Status};
use crate::headers::serialized;
use crate::host;

/// Stands for the gRPC status of an answer that is no gRPC.
pub(crate) const NO_GRPC: i32 = -1;

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
        host::log(LogLevel::Error, "Envoy did not take a refusal");
    }
}

fn refuse_http(denial: Denial, details: &Details) -> Result<(), Status> {
    let refusal = http_refusal(denial, details);
    let headers: Vec<_> = refusal.headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    abi::send_local_response(u32::from(refusal.status), &serialized(&headers), &refusal.body, NO_GRPC)
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

fn refuse_grpc(denial: Denial, details: &Details) -> Result<(), Status> {
    let retry_after = details.retry_after.map(|seconds| seconds.to_string());
    let mut metadata = vec![("omniflow-code", denial.code().as_bytes())];
    if let Some(seconds) = &retry_after {
        metadata.push(("retry-after", seconds.as_bytes()));
    }
    let message = format!("{}: {}", denial.code(), denial.detail());
    let status = i32::from(denial.grpc_status());
    abi::send_local_response(200, &serialized(&metadata), message.as_bytes(), status)
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
    let mut digits = [0; MOST_DIGITS];
    let mut set = |name, value: u64| host::set_response_header(name, decimal(value, &mut digits));
    set("x-ratelimit-limit", u64::from(report.limit));
    set("x-ratelimit-remaining", u64::from(report.remaining));
    set("x-ratelimit-reset", report.reset_seconds);
}

/// Digits of the largest number.
const MOST_DIGITS: usize = 20;

/// A number in decimal, without an allocation.
fn decimal(mut value: u64, digits: &mut [u8; MOST_DIGITS]) -> &[u8] {
    let mut first = MOST_DIGITS;
    for (place, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (value % 10) as u8;
        (value, first) = (value / 10, place);
        if value == 0 {
            break;
        }
    }
    digits.get(first..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        for value in [0, 7, 10, 99, 1_000_000, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(decimal(value, &mut [0; MOST_DIGITS]), value.to_string().as_bytes());
        }
    }

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
