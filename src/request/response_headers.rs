//! The headers of every response, local replies included.

use omniflow_policy::limit::LimitReport;

use crate::host;
use crate::host::header_map::{HeaderMap, parse_number, parse_status};

const LIMIT: &str = "x-ratelimit-limit";
const REMAINING: &str = "x-ratelimit-remaining";
const RESET: &str = "x-ratelimit-reset";
/// Directives of `Cache-Control` with which an upstream specifies whether a shared cache may store the response to an
/// authenticated request (RFC 9111, 3.5 and 5.2.2).
///
/// `must-revalidate` is not one of them: it allows shared storage only for `Authorization`, and the upstream sees no credential.
const EXPLICIT: [&[u8]; 4] = [b"private", b"no-store", b"public", b"s-maxage"];
/// The number of digits of the largest number.
const MAX_DIGITS: usize = 20;

/// The relevant facts from the headers of a response. Use it only in the response headers callback.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ResponseHeaders {
    /// 0 without a valid `:status`.
    pub(super) status: u16,
    /// The status of a gRPC response without a message.
    pub(super) grpc_status: Option<u32>,
    /// Whether it has rate-limit headers.
    has_rate_limits: bool,
    /// Whether `Vary` covers both headers of credentials.
    varies: bool,
    /// Whether `Cache-Control` specifies what a shared cache may do.
    is_cache_explicit: bool,
}

// === impl ResponseHeaders ===

impl ResponseHeaders {
    pub(super) fn new(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        let (mut authorization, mut api_key) = (false, false);
        for (name, value) in headers.iter() {
            match name {
                b":status" => found.status = parse_status(value).unwrap_or_default(),
                b"grpc-status" => found.grpc_status = parse_number(value),
                b"vary" => {
                    let has =
                        |field| list(value).any(|item| item == b"*" || item.eq_ignore_ascii_case(field));
                    authorization |= has(b"authorization");
                    api_key |= has(b"x-api-key");
                }
                b"cache-control" => {
                    found.is_cache_explicit |= list(value).any(|item| {
                        let directive = item.split(|byte| *byte == b'=').next().unwrap_or_default();
                        EXPLICIT.iter().any(|known| directive.trim_ascii().eq_ignore_ascii_case(known))
                    });
                }
                _ => found.has_rate_limits |= name.starts_with(b"x-ratelimit-"),
            }
        }
        found.varies = authorization && api_key;
        found
    }

    /// Sets the rate-limit headers, if the client has limits. An upstream that limits the client itself keeps its own
    /// headers, because its `Retry-After` belongs to them.
    pub(super) fn set_rate_limits(&self, limits: Option<&LimitReport>, is_allowed: bool) {
        let Some(limits) = limits.filter(|_| !(is_allowed && self.status == 429)) else { return };
        let mut digits = [0; MAX_DIGITS];
        let mut set = |name, value: u64| {
            let value = decimal(value, &mut digits);
            // Adding is cheaper than replacing. Headers of the upstream are replaced.
            if self.has_rate_limits {
                host::replace_response_header(name, value);
            } else {
                host::add_response_header(name, value);
            }
        };
        set(LIMIT, u64::from(limits.bucket));
        set(REMAINING, u64::from(limits.remaining));
        set(RESET, limits.reset_seconds);
    }

    /// Keeps shared caches from serving the response to others.
    pub(super) fn set_private(&self) {
        if !self.varies {
            host::add_response_header("vary", b"Authorization, X-API-Key");
        }
        if !self.is_cache_explicit {
            host::add_response_header("cache-control", b"private");
        }
    }
}

/// The status in the trailers of a gRPC response.
pub(super) fn grpc_status(trailers: &HeaderMap) -> Option<u32> {
    parse_number(trailers.get(b"grpc-status")?)
}

fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// A number in decimal, without an allocation.
fn decimal(mut value: u64, digits: &mut [u8; MAX_DIGITS]) -> &[u8] {
    let mut first = MAX_DIGITS;
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
    use crate::host::header_map::serialized;

    fn read(headers: &[(&str, &[u8])]) -> ResponseHeaders {
        ResponseHeaders::new(&HeaderMap::new(serialized(headers)))
    }

    #[test]
    fn decimal_equals_to_string() {
        for value in [0, 7, 10, 99, 1_000_000, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(decimal(value, &mut [0; MAX_DIGITS]), value.to_string().as_bytes());
        }
    }

    #[test]
    fn statuses_are_read() {
        let trailers_only = read(&[(":status", b"200"), ("grpc-status", b"14")]);
        assert_eq!((trailers_only.status, trailers_only.grpc_status), (200, Some(14)));
        for value in [&b"x"[..], b"", b"-1", b"99999999999", b"\xff"] {
            assert_eq!(read(&[("grpc-status", value)]).grpc_status, None);
        }
    }

    #[test]
    fn vary_covers_both_headers_of_credentials() {
        for (values, expected) in [
            (&[][..], false),
            (&["Accept-Encoding"][..], false),
            (&["Authorization"], false),
            (&["x-api-key,  AUTHORIZATION"], true),
            (&["Authorization", "Accept, X-API-Key"], true),
            (&["*"], true),
            (&["X-API-Keys, Authorization"], false),
        ] {
            let headers: Vec<_> = values.iter().map(|value| ("vary", value.as_bytes())).collect();
            assert_eq!(read(&headers).varies, expected, "{values:?}");
        }
    }

    #[test]
    fn only_an_explicit_cache_control_is_kept_alone() {
        for (value, expected) in [
            ("max-age=60", false),
            ("no-cache", false),
            ("", false),
            ("max-age=60, PRIVATE", true),
            ("no-store", true),
            ("public, max-age=60", true),
            ("s-maxage=10", true),
            ("max-age=3600, must-revalidate", false),
            ("x-public", false),
        ] {
            assert_eq!(read(&[("cache-control", value.as_bytes())]).is_cache_explicit, expected, "{value}");
        }
    }
}
