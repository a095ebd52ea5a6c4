//! Keys for tests.

use omniflow_policy::address::Allowlist;
use omniflow_policy::digest::Digest;
use omniflow_policy::key::Environment;
use omniflow_policy::limit::RateLimit;
use omniflow_policy::scope::ScopeSet;
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use super::model::{Key, KeyVersion};

/// A key with one version for each pair of an end and a revocation.
pub(crate) fn key(expires_at: Option<u64>, versions: &[(Option<u64>, Option<u64>)]) -> Key {
    Key {
        id: Uuid::from_u128(7),
        name: "ci".parse().unwrap(),
        environment: Environment::Live,
        scopes: ScopeSet::default(),
        rate_limit: RateLimit::default(),
        ip_allowlist: Allowlist::default(),
        description: None,
        created_by: "owner".to_owned(),
        created_at: UnixMillis(0),
        expires_at: expires_at.map(UnixMillis),
        revision: 1,
        versions: versions
            .iter()
            .zip(1u16..)
            .map(|((expires_at, revoked_at), version)| KeyVersion {
                version,
                digest: Digest::of(&version.to_be_bytes()),
                hint: "abcd".to_owned(),
                created_at: UnixMillis(0),
                expires_at: expires_at.map(UnixMillis),
                revoked_at: revoked_at.map(UnixMillis),
                imported: false,
            })
            .collect(),
    }
}
