//! Chooses the index of the request log that answers a filter.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use omniflow_domain::audit_query::AuditFilter;
use omniflow_domain::key::KeyReference;
use omniflow_policy::denial::Outcome;

/// What an index finds, in the order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indexed {
    /// All calls.
    Time,
    /// Calls with the identifier of a key.
    Key,
    /// Calls with the name of a key.
    KeyName,
    /// Calls with a reason.
    Reason,
    /// Calls of an endpoint.
    Endpoint,
    /// Calls with a status.
    Status,
    /// Calls from an address.
    Address,
}

/// The condition of a filter that probably matches the fewest calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Narrowest {
    /// Its index.
    pub index: Indexed,
    /// This condition and the times of the filter.
    pub answered: AuditFilter,
    /// Whether the filter has no other condition.
    pub is_all: bool,
}

// === impl Narrowest ===

impl Narrowest {
    /// Chooses a condition of a filter.
    pub fn of(filter: &AuditFilter) -> Self {
        let times = times_of(filter);
        let is_one = |status: &RangeInclusive<u16>| status.start() == status.end();
        let status = filter.status.clone().filter(is_one);
        let network = filter.network.filter(|network| filter.key.is_none() && !is_wide(*network));
        let (index, answered) = match (&filter.key, filter.reason, &filter.endpoint, status) {
            (None, ..) if network.is_some_and(is_host) => {
                (Indexed::Address, AuditFilter { network, ..times })
            }
            (None, ..) if network.is_some() => (Indexed::Time, times),
            (Some(key), ..) => {
                let index = match key {
                    KeyReference::Id(_) => Indexed::Key,
                    KeyReference::Name(_) => Indexed::KeyName,
                };
                (index, AuditFilter { key: Some(key.clone()), ..times })
            }
            (None, Some(reason), ..) if reason != Outcome::Allowed => {
                (Indexed::Reason, AuditFilter { reason: Some(reason), ..times })
            }
            (None, _, Some(endpoint), _) => {
                (Indexed::Endpoint, AuditFilter { endpoint: Some(endpoint.clone()), ..times })
            }
            (None, _, None, Some(status)) => (Indexed::Status, AuditFilter { status: Some(status), ..times }),
            (None, Some(reason), None, None) => {
                (Indexed::Reason, AuditFilter { reason: Some(reason), ..times })
            }
            (None, None, None, None) => (Indexed::Time, times),
        };
        let is_all = conditions(&answered) == conditions(filter);
        Self { index, answered, is_all }
    }
}

/// The network of a filter if its calls may be found faster address by address, and then sorted, than in the order of time.
pub fn network_to_gather(filter: &AuditFilter) -> Option<IpNet> {
    filter.network.filter(|network| filter.key.is_none() && !is_wide(*network) && !is_host(*network))
}

/// A filter with the times of this one alone.
pub fn times_of(filter: &AuditFilter) -> AuditFilter {
    AuditFilter { from: filter.from, to: filter.to, ..AuditFilter::default() }
}

/// Whether a network is so large that its calls are found faster by scanning the log than by address.
pub fn is_wide(network: IpNet) -> bool {
    match network {
        IpNet::V4(v4) => v4.prefix_len() < 16,
        IpNet::V6(v6) => v6.prefix_len() < 32,
    }
}

/// Whether a network is one address.
fn is_host(network: IpNet) -> bool {
    network.prefix_len() == network.max_prefix_len()
}

/// How many conditions a filter has, times aside.
fn conditions(filter: &AuditFilter) -> usize {
    [
        filter.key.is_some(),
        filter.environment.is_some(),
        filter.endpoint.is_some(),
        filter.method.is_some(),
        filter.status.is_some(),
        filter.grpc_status.is_some(),
        filter.decision.is_some(),
        filter.reason.is_some(),
        filter.network.is_some(),
    ]
    .into_iter()
    .filter(|is_stated| *is_stated)
    .count()
}

#[cfg(test)]
mod tests {
    use omniflow_policy::denial::Denial;

    use super::*;

    #[test]
    fn narrowest_condition_is_chosen() {
        let all = AuditFilter::default;
        let key = Some(KeyReference::from("ci"));
        let endpoint = Some("/api/v1/contacts".to_owned());
        let denied = Some(Outcome::Denied(Denial::KeyRevoked));
        let network = |text: &str| Some(text.parse().unwrap());
        for (filter, index, is_all) in [
            (all(), Indexed::Time, true),
            (AuditFilter { key: key.clone(), ..all() }, Indexed::KeyName, true),
            (AuditFilter { key, network: network("10.0.0.1/32"), ..all() }, Indexed::KeyName, false),
            (AuditFilter { reason: denied, endpoint: endpoint.clone(), ..all() }, Indexed::Reason, false),
            (AuditFilter { reason: Some(Outcome::Allowed), endpoint, ..all() }, Indexed::Endpoint, false),
            (AuditFilter { reason: Some(Outcome::Allowed), ..all() }, Indexed::Reason, true),
            (AuditFilter { status: Some(404..=404), ..all() }, Indexed::Status, true),
            (AuditFilter { status: Some(400..=499), ..all() }, Indexed::Time, false),
            (
                AuditFilter { network: network("10.0.0.1/32"), reason: denied, ..all() },
                Indexed::Address,
                false,
            ),
            (AuditFilter { network: network("10.0.0.0/8"), reason: denied, ..all() }, Indexed::Reason, false),
            (AuditFilter { network: network("10.0.0.0/24"), reason: denied, ..all() }, Indexed::Time, false),
        ] {
            let chosen = Narrowest::of(&filter);
            assert_eq!((chosen.index, chosen.is_all), (index, is_all), "{filter:?}");
        }
    }
}
