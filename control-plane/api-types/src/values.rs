//! Values, limits and word lists of the API that its clients need, so that a client depends on this crate alone.

pub use omniflow_domain::anomaly::AnomalyKind;
pub use omniflow_domain::audit::Decision;
pub use omniflow_domain::gateway::MAX_WAIT;
pub use omniflow_domain::key::{DEFAULT_OVERLAP, KeyStatus, MAX_HINT_LENGTH, MAX_OVERLAP};
pub use omniflow_domain::time::{format_time, parse_time};
pub use omniflow_domain::token::Role;
pub use omniflow_policy::digest::Digest;
pub use omniflow_policy::explain::Step;
pub use omniflow_policy::key::Environment;
pub use omniflow_policy::limit::{DEFAULT_PER_MINUTE, RateLimit};
pub use omniflow_policy::outcome::Denial;
pub use omniflow_policy::payload::PayloadState;
pub use omniflow_policy::policy::{PolicyDocument, RouteDefinition, ScopeDefinition};
pub use omniflow_policy::policy_diff::{Change, ChangedRoute, MappedRoute};
pub use omniflow_policy::time::UnixMillis;
