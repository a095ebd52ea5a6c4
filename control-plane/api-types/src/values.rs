//! Values, limits and enumerations of the API that clients need, so that a client depends only on this crate.

pub use omniflow_domain::anomaly::AnomalyKind;
pub use omniflow_domain::audit::Decision;
pub use omniflow_domain::gateway::{GatewayState, MAX_WAIT};
pub use omniflow_domain::key::{DEFAULT_OVERLAP, KeyStatus, MAX_HINT_LENGTH, MAX_OVERLAP};
pub use omniflow_domain::time::{format_time, parse_time};
pub use omniflow_domain::token::Role;
pub use omniflow_policy::denial::Denial;
pub use omniflow_policy::digest::Digest;
pub use omniflow_policy::explain::Step;
pub use omniflow_policy::key::Environment;
pub use omniflow_policy::limit::{DEFAULT_PER_MINUTE, RateLimit};
pub use omniflow_policy::payload::PayloadState;
pub use omniflow_policy::policy::{PolicyDocument, RouteDefinition, ScopeDefinition};
pub use omniflow_policy::policy_diff::{Change, ChangedRoute, MappedRoute};
pub use omniflow_policy::time::UnixMillis;
