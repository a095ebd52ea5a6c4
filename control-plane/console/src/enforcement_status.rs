//! The enforcement of a change by the gateways, as several pages show it.

use askama::Template;
use askama::filters::HtmlSafe;

use super::format::At;
use omniflow_api_types::gateway::EnforcementJson;

/// Enforcement of a change, rendered as a part of a page.
#[derive(Template)]
#[template(path = "enforcement_status.html")]
pub(super) struct EnforcementStatus {
    pub(super) is_complete: bool,
    /// Number of live gateways that enforce it.
    enforced: usize,
    /// All live gateways.
    gateways: Vec<GatewayStatus>,
    /// Silent gateways, with the time each was last seen.
    silent: Vec<(String, At)>,
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
            })
            .collect();
        let times: Option<Vec<u128>> = gateways.iter().map(|gateway| gateway.ms).collect();
        let silent = enforcement.silent.into_iter().map(|gateway| (gateway.id, At(gateway.last_seen_at.0)));
        Self {
            is_complete: enforcement.complete,
            enforced: gateways.iter().filter(|gateway| gateway.is_enforced).count(),
            ms: times.and_then(|times| times.into_iter().max()),
            silent: silent.collect(),
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
        }
    }

    #[test]
    fn enforcing_pending_and_silent_gateways_are_shown() {
        let part = EnforcementStatus {
            is_complete: false,
            enforced: 1,
            gateways: vec![gateway("edge/a", true), gateway("edge/b", false)],
            silent: vec![("edge/<c>".to_owned(), At(UnixMillis(1_800_000_000_000)))],
            ms: None,
        };
        let html = part.render().unwrap();
        for part in ["1 of 2 gateways", "after 12 ms", "not yet", "edge/&#60;c&#62;", "2027-01-15 08:00 UTC"]
        {
            assert!(html.contains(part), "{part}: {html}");
        }
        let part = EnforcementStatus {
            is_complete: true,
            enforced: 1,
            gateways: vec![gateway("edge/a", true)],
            silent: Vec::new(),
            ms: Some(12),
        };
        let html = part.render().unwrap();
        assert!(html.contains("1 of 1 gateway, 12 ms") && !html.contains("silent"), "{html}");
    }
}
