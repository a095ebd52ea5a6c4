//! The enforcement of a change by the gateways, for several pages.

use askama::Template;
use askama::filters::HtmlSafe;

use super::format::At;
use omniflow_api_types::gateway::EnforcementJson;
use omniflow_domain::gateway::GatewayState;

/// Enforcement of a change, rendered as a part of a page.
#[derive(Template)]
#[template(path = "enforcement_status.html")]
pub(super) struct EnforcementStatus {
    pub(super) is_complete: bool,
    /// Number of gateways that enforce it.
    enforced: usize,
    /// All gateways that may be serving requests.
    gateways: Vec<GatewayStatus>,
    /// Time from the commit to the enforcement by the last gateway, in milliseconds.
    ms: Option<u128>,
}

/// Enforcement by one gateway.
struct GatewayStatus {
    id: String,
    workers: usize,
    enforced_workers: usize,
    is_enforced: bool,
    ms: Option<u128>,
    state: GatewayState,
    last_seen: At,
}

// === impl EnforcementStatus ===

impl HtmlSafe for EnforcementStatus {}

impl From<EnforcementJson> for EnforcementStatus {
    fn from(enforcement: EnforcementJson) -> Self {
        let gateways: Vec<GatewayStatus> = enforcement
            .gateways
            .into_iter()
            .map(|gateway| GatewayStatus {
                id: gateway.id,
                workers: gateway.workers,
                enforced_workers: gateway.enforced_workers,
                is_enforced: gateway.enforced,
                ms: gateway.ms,
                state: gateway.state,
                last_seen: At(gateway.last_seen_at.0),
            })
            .collect();
        let times: Option<Vec<u128>> = gateways.iter().map(|gateway| gateway.ms).collect();
        Self {
            is_complete: enforcement.complete,
            enforced: gateways.iter().filter(|gateway| gateway.is_enforced).count(),
            ms: times.and_then(|times| times.into_iter().max()),
            gateways,
        }
    }
}

#[cfg(test)]
mod tests {
    use omniflow_policy::time::UnixMillis;

    use super::*;

    fn gateway(id: &str, is_enforced: bool) -> GatewayStatus {
        let ms = is_enforced.then_some(12);
        GatewayStatus {
            id: id.to_owned(),
            workers: 1,
            enforced_workers: usize::from(is_enforced),
            is_enforced,
            ms,
            state: if is_enforced { GatewayState::InStep } else { GatewayState::Behind },
            last_seen: At(UnixMillis(1_800_000_000_000)),
        }
    }

    #[test]
    fn gateways_are_shown_with_the_reason_why_they_do_not_enforce() {
        let part = EnforcementStatus {
            is_complete: false,
            enforced: 1,
            gateways: vec![
                gateway("edge/a", true),
                gateway("edge/b", false),
                GatewayStatus { state: GatewayState::Silent, ..gateway("edge/<c>", false) },
                GatewayStatus { state: GatewayState::TokenExpired, ..gateway("edge/d", false) },
            ],
            ms: None,
        };
        let html = part.render().unwrap();
        for part in [
            "1 of 4 gateways",
            "after 12 ms",
            "not yet",
            "edge/&#60;c&#62;",
            "silent since",
            "2027-01-15 08:00 UTC",
            "rejected: token expired",
        ] {
            assert!(html.contains(part), "{part}: {html}");
        }
        let part = EnforcementStatus {
            is_complete: true,
            enforced: 1,
            gateways: vec![gateway("edge/a", true)],
            ms: Some(12),
        };
        let html = part.render().unwrap();
        assert!(html.contains("1 of 1 gateway, 12 ms") && !html.contains("silent"), "{html}");
    }
}
