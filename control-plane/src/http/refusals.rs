//! Tells the log that calls of gateways are refused. A gateway with a wrong token looks like one that is not there,
//! so the operator has to learn of it on this side.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use axum::extract::ConnectInfo;
use axum::http::Extensions;
use omniflow_policy::time::UnixMillis;

/// How long a reason is not told again: whoever sends wrong tokens must not fill the disk.
const QUIET_MS: u64 = 60_000;

/// Why a gateway's call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// There is not exactly one header with a bearer token.
    NoToken,
    /// The token is none, or was revoked: those that were revoked are not kept.
    UnknownToken,
    /// The token has ended.
    ExpiredToken,
    /// The token is not one of a gateway.
    WrongRole,
}

/// When each reason was told, and how often it was kept back since.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<BTreeMap<Reason, Told>>);

#[derive(Debug)]
struct Told {
    at: UnixMillis,
    kept_back: u64,
}

// === impl Reason ===

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoToken => "no token, or more than one",
            Self::UnknownToken => "the token is unknown or was revoked",
            Self::ExpiredToken => "the token has expired",
            Self::WrongRole => "the token has not the role gateway",
        })
    }
}

// === impl Refusals ===

impl Refusals {
    /// Logs a refusal, unless its reason was logged within the last minute.
    pub(super) fn note(&self, reason: Reason, extensions: &Extensions, now: UnixMillis) {
        let Some(kept_back) = self.due(reason, now) else { return };
        let peer = extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map(|ConnectInfo(peer)| tracing::field::display(peer));
        tracing::warn!(peer, %reason, kept_back, "a call of a gateway was refused");
    }

    /// Whether to tell of it now, and then how often it was kept back before.
    fn due(&self, reason: Reason, now: UnixMillis) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The distance either way: a clock that is set back must not silence this.
        if let Some(last) = told.get_mut(&reason).filter(|last| now.0.abs_diff(last.at.0) < QUIET_MS) {
            last.kept_back += 1;
            return None;
        }
        Some(told.insert(reason, Told { at: now, kept_back: 0 }).map_or(0, |last| last.kept_back))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::{Method, Request, StatusCode};
    use serde_json::json;

    use super::*;
    use crate::http::testing::{Plane, Warnings, request};

    #[test]
    fn each_reason_is_told_once_a_minute() {
        let refusals = Refusals::default();
        let due = |reason, now| refusals.due(reason, UnixMillis(now));
        assert_eq!(due(Reason::NoToken, 100_000), Some(0));
        assert_eq!(due(Reason::NoToken, 100_001), None);
        assert_eq!(due(Reason::NoToken, 159_999), None);
        assert_eq!(due(Reason::WrongRole, 159_999), Some(0));
        assert_eq!(due(Reason::NoToken, 160_000), Some(2));
        assert_eq!(due(Reason::NoToken, 90_000), Some(0), "the clock was set back");
    }

    #[tokio::test]
    async fn refused_gateways_are_told_of_without_their_tokens() {
        let (warnings, _logging) = Warnings::gather();
        let plane = Plane::new().await;
        let body = json!({"name": "short", "role": "gateway", "expires_at": "2027-01-15T08:00:01Z"});
        let short = plane.post("/v1/tokens", body).await.expect(StatusCode::CREATED);
        let short = short["secret"].as_str().unwrap().to_owned();
        plane.pass(Duration::from_secs(2));
        let poll = async |token: &str| {
            let mut request = request(Method::POST, "/gateway/v1/poll", token, Some(json!({})));
            request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 7], 4711))));
            plane.call(request).await.status
        };
        for _ in 0..3 {
            assert_eq!(poll("omf_token_wrong").await, StatusCode::UNAUTHORIZED);
            assert_eq!(poll(&short).await, StatusCode::UNAUTHORIZED);
            assert_eq!(poll(&plane.owner).await, StatusCode::FORBIDDEN);
            let without = Request::post("/gateway/v1/audit").body(Body::empty()).unwrap();
            assert_eq!(plane.call(without).await.status, StatusCode::UNAUTHORIZED);
        }
        let elsewhere = request(Method::GET, "/v1/keys", "omf_token_wrong", None);
        plane.call(elsewhere).await;
        let text = warnings.text();
        assert_eq!(text.lines().count(), 4, "{text}");
        for reason in [Reason::NoToken, Reason::UnknownToken, Reason::ExpiredToken, Reason::WrongRole] {
            assert_eq!(text.matches(&format!("reason={reason}")).count(), 1, "{text}");
        }
        assert_eq!(text.matches("peer=192.0.2.7:4711").count(), 3, "{text}");
        for token in ["omf_token_wrong", &short, &plane.owner] {
            assert!(!text.contains(token), "{text}");
        }
    }
}
