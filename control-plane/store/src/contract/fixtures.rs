//! Keys, tokens, records and batches for tests of a store.

use std::collections::HashMap;

use omniflow_domain::admin_event::{Action, NewAdminEvent, PrincipalRef, Subject};
use omniflow_domain::gateway::{GatewayId, Sighting};
use omniflow_domain::key::{Key, KeyVersion};
use omniflow_domain::policy::StoredPolicy;
use omniflow_domain::session::Session;
pub use omniflow_domain::time::{DAY_MS as DAY, HOUR_MS as HOUR};
use omniflow_domain::token::{Role, Token};
use omniflow_policy::address::Allowlist;
use omniflow_policy::audit::{AuditBatch, AuditItem, AuditKey, AuditRecord, AuditSource};
use omniflow_policy::denial::{Denial, Outcome};
use omniflow_policy::digest::Digest;
use omniflow_policy::gateway::Incarnation;
use omniflow_policy::key::{Environment, KeyPrefix};
use omniflow_policy::limit::RateLimit;
use omniflow_policy::policy::PolicyDocument;
use omniflow_policy::scope::{Scope, ScopeSet};
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use crate::{Ingested, Installation, Store};

/// 2027-01-15T08:00:00Z.
pub const START: u64 = 1_800_000_000_000;
/// The latest time that batches of these tests may contain.
pub const LATEST: UnixMillis = UnixMillis(START + 1_000 * DAY);

/// An instant by its distance from [`START`] in milliseconds.
pub fn at(offset: u64) -> UnixMillis {
    UnixMillis(START + offset)
}

/// The identifier number `n`.
pub fn id(n: u32) -> Uuid {
    Uuid::from_u128(u128::from(n) << 64)
}

/// A scope.
pub fn scope(text: &str) -> Scope {
    text.parse().unwrap()
}

/// Scopes, separated by spaces.
pub fn scopes(text: &str) -> ScopeSet {
    ScopeSet::new(text.split_ascii_whitespace().map(scope)).unwrap()
}

/// The version number `version` of key number `n`.
pub fn version(n: u32, version: u16) -> KeyVersion {
    KeyVersion {
        version,
        digest: Digest::of(format!("secret {n} {version}").as_bytes()),
        hint: format!("{n:04}"),
        created_at: at(u64::from(n)),
        expires_at: None,
        revoked_at: None,
        imported: false,
    }
}

/// Key number `n`: live, with the scope `contacts:read` and one version.
pub fn key(n: u32) -> Key {
    Key {
        id: id(n),
        name: format!("key-{n}").parse().unwrap(),
        environment: Environment::Live,
        scopes: scopes("contacts:read"),
        rate_limit: RateLimit { per_minute: Some(60), per_hour: None, burst: None },
        ip_allowlist: Allowlist::parse([]).unwrap(),
        description: None,
        created_by: "owner".to_owned(),
        created_at: at(u64::from(n)),
        expires_at: None,
        revision: 1,
        versions: vec![version(n, 1)],
    }
}

/// Admin token number `n`.
pub fn token(n: u32) -> Token {
    Token {
        id: id(n),
        name: format!("token-{n}").parse().unwrap(),
        role: Role::Admin,
        gateways: Vec::new(),
        digest: Digest::of(format!("token {n}").as_bytes()),
        created_by: "owner".to_owned(),
        created_at: at(u64::from(n)),
        expires_at: None,
    }
}

/// Session number `n` of a token, created and used at `time`.
pub fn session(n: u32, token: Uuid, time: UnixMillis) -> Session {
    Session {
        digest: Digest::of(format!("session {n}").as_bytes()),
        token_id: token,
        created_at: time,
        seen_at: time,
    }
}

/// A policy version.
pub fn policy(version: u64) -> StoredPolicy {
    StoredPolicy {
        version,
        document: PolicyDocument::default(),
        created_by: "owner".to_owned(),
        created_at: at(version),
    }
}

/// The installation.
pub fn installation() -> Installation {
    Installation {
        id: id(7),
        key_prefix: KeyPrefix::default(),
        snapshot_version: START,
        published_at: at(0),
        created_at: at(0),
    }
}

/// An admin log entry by `token`, at `time`, about a key.
pub fn event(token: Option<Uuid>, time: UnixMillis, subject: &str) -> NewAdminEvent {
    NewAdminEvent {
        time,
        principal: PrincipalRef { id: token, name: "owner".to_owned() },
        action: Action::KeyCreated,
        subject: Subject { id: id(1).to_string(), name: subject.to_owned() },
        before: None,
        after: Some(serde_json::json!({"name": subject})),
    }
}

/// Run number `run` of the gateway `gateway`.
pub fn gateway(gateway: &str, run: u64) -> GatewayId {
    GatewayId { gateway: gateway.to_owned(), incarnation: Incarnation(run) }
}

/// A sighting of a gateway.
pub fn sighting(name: &str, run: u64, first: u64, last: u64) -> Sighting {
    Sighting {
        id: gateway(name, run),
        first_seen_at: at(first),
        last_seen_at: at(last),
        token: None,
        hung_up_at: None,
        is_busy: false,
    }
}

/// An allowed call.
pub fn record(sequence: u64, time: u64, key: Option<(Uuid, &str)>) -> AuditRecord {
    AuditRecord {
        sequence,
        time: UnixMillis(time),
        key: key.map(|(id, name)| AuditKey {
            id,
            name: name.to_owned(),
            version: 1,
            environment: Environment::Live,
        }),
        method: "GET".to_owned(),
        endpoint: Some("/api/v1/contacts".to_owned()),
        path: "/api/v1/contacts".to_owned(),
        status: 200,
        grpc_status: None,
        interruption: None,
        outcome: Outcome::Allowed,
        latency_us: 900,
        source_ip: Some("203.0.113.7".parse().unwrap()),
        request_id: format!("request-{sequence}"),
        request_bytes: 120,
        response_bytes: 340,
        argument_hash: Digest::of(b"\n"),
        argument_hash_partial: false,
    }
}

/// A refused call.
pub fn refused(sequence: u64, time: u64, key: Option<(Uuid, &str)>, reason: Denial) -> AuditRecord {
    let mut record = record(sequence, time, key);
    (record.status, record.outcome) = (reason.status(), Outcome::Denied(reason));
    record
}

/// The stream of VM `vm` of run `run` of the gateway `edge`.
pub fn source(run: u64, vm: u64) -> AuditSource {
    AuditSource { gateway: "edge".to_owned(), incarnation: Incarnation(run), vm: Incarnation(vm) }
}

/// A batch without a progress report.
pub fn batch(source: AuditSource, items: Vec<AuditItem>) -> AuditBatch {
    AuditBatch { source, delivery: None, items }
}

/// Stores a batch, which arrives at [`START`].
pub async fn ingest_batch(store: &dyn Store, batch: AuditBatch) -> Ingested {
    let mut transaction = store.begin_log().await.unwrap();
    let ingested = transaction.ingest(batch, &HashMap::new(), at(0), LATEST).await.unwrap();
    transaction.commit().await.unwrap();
    ingested
}

/// Stores records of one stream.
pub async fn ingest(store: &dyn Store, records: Vec<AuditRecord>) -> Ingested {
    ingest_batch(store, batch(source(1, 1), records.into_iter().map(AuditItem::Call).collect())).await
}

/// Stores keys.
pub async fn insert_keys(store: &dyn Store, keys: &[Key]) {
    let mut transaction = store.begin().await.unwrap();
    transaction.insert_keys(keys).await.unwrap();
    transaction.commit().await.unwrap();
}

/// Stores tokens.
pub async fn insert_tokens(store: &dyn Store, tokens: &[Token]) {
    let mut transaction = store.begin().await.unwrap();
    for token in tokens {
        assert!(transaction.insert_token(token).await.unwrap());
    }
    transaction.commit().await.unwrap();
}

/// Stores policy versions.
pub async fn insert_policies(store: &dyn Store, versions: &[u64]) {
    let mut transaction = store.begin().await.unwrap();
    for version in versions {
        transaction.insert_policy(&policy(*version)).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

/// Records of a key: ten quiet days, then an hour with every kind of call.
pub fn eventful_records(key: Uuid) -> Vec<AuditRecord> {
    let quiet = (0..240).map(|n| record(n, START - (240 - n) * HOUR, Some((key, "ci"))));
    let loud = (240..640).map(|n| {
        let mut record = record(n, START + (n - 240) * 1_000, Some((key, "ci")));
        match n {
            240..250 => record.source_ip = Some(format!("198.51.{n}.1").parse().unwrap()),
            250..255 => record.source_ip = Some(format!("2001:db8:{n}::1").parse().unwrap()),
            255 => record.source_ip = None,
            300..350 => {
                (record.status, record.outcome) = (403, Outcome::Denied(Denial::InsufficientScope));
            }
            350..390 => record.status = [401, 404, 409, 429][n as usize % 4],
            393..400 => record.grpc_status = Some(n as u32 % 3),
            390..393 => (record.status, record.outcome) = (401, Outcome::Denied(Denial::KeyRevoked)),
            _ => {}
        }
        record
    });
    quiet.chain(loud).collect()
}
