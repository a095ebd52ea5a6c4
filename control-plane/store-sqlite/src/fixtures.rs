//! Databases with many rows, for benchmarks.

use omniflow_policy::audit::AuditRecord;
use omniflow_store::encoding::{address_bytes, digest_bytes, saturated, to_millis};

use crate::SqliteStore;

const DAY_MS: i64 = omniflow_domain::time::DAY_MS.cast_signed();
/// The time of the last row: 2027-01-15T08:00:00Z.
pub const END: i64 = 1_800_000_000_000;

/// Inserts records of the last 90 days: every tenth of the first of 200 keys, the others of random keys. Also inserts
/// what a running control plane would have: the payloads of the last 7 days, and the sums from which anomalies are
/// detected.
pub async fn records(store: &SqliteStore, count: i64) {
    const PIECE: i64 = 100_000;
    for first in (0..count).step_by(PIECE as usize) {
        let mut transaction = store.audit.begin().await.unwrap();
        sqlx::query(
            "WITH RECURSIVE n(i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?2), \
             r AS (SELECT i, CASE WHEN i % 10 = 0 THEN 0 ELSE abs(random()) % 200 END AS k, \
                   abs(random()) AS x FROM n) \
             INSERT INTO audit_records (time, gateway, key_id, key_name, key_version, environment, method, \
               endpoint, path, status, decision, reason, latency_us, source_ip, request_id, request_bytes, \
               response_bytes, argument_hash, argument_hash_partial) \
             SELECT ?3 + i * ?4 / ?5, 'edge', CAST(printf('%016d', k) AS BLOB), 'key-' || k, 1, 'live', 'GET', \
               '/api/v1/contacts/{id}', '/api/v1/contacts/' || (x % 100000), \
               CASE x % 50 WHEN 0 THEN 404 WHEN 1 THEN 503 ELSE 200 END, 'allowed', 'allowed', \
               300 + (x % 1000) * (x % 977) / 10, CAST(printf('%016d', x % 5000) AS BLOB), \
               printf('%032x', x), 120, 340, zeroblob(32), 0 FROM r",
        )
        .bind(first)
        .bind((first + PIECE).min(count))
        .bind(END - 90 * DAY_MS)
        .bind(90 * DAY_MS)
        .bind(count)
        .execute(transaction.connection())
        .await
        .unwrap();
        sqlx::query(
            "INSERT INTO audit_payloads SELECT id, time, 1, randomblob(300) FROM audit_records \
             WHERE id > ? AND id <= ? AND time >= ?",
        )
        .bind(first)
        .bind(first + PIECE)
        .bind(END - 7 * DAY_MS)
        .execute(transaction.connection())
        .await
        .unwrap();
        transaction.commit().await.unwrap();
    }
    let mut transaction = store.audit.begin().await.unwrap();
    for statement in [
        "INSERT INTO key_hours SELECT key_id, time / 3600000, max(key_name), min(time), max(time), count(*), 0, 0, \
         sum(status = 404), 0, 0, 0, 1, 0 FROM audit_records GROUP BY key_id, time / 3600000",
        "INSERT INTO key_networks SELECT key_id, substr(source_ip, 1, 15), min(time), max(time), count(*) \
         FROM audit_records GROUP BY 1, 2",
    ] {
        sqlx::query(statement).execute(transaction.connection()).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

/// Inserts keys of the last year, half of them used: one in ten revoked, one in ten rotating, one in ten expiring.
pub async fn keys(store: &SqliteStore, count: i64) {
    let mut transaction = store.main.begin().await.unwrap();
    let numbers = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1) ";
    let keys = "INSERT INTO keys (id, name, environment, scopes, per_minute, ip_allowlist, description, created_by, \
         created_at, expires_at) \
         SELECT CAST(printf('%016d', i) AS BLOB), 'key-' || i, iif(i % 3, 'live', 'test'), \
           iif(i % 2, 'contacts:read', 'contacts:read tickets:read'), 60, '', 'made for a measurement', 'owner', \
           ?2 - (?1 - i) * 315000, iif(i % 10 = 3, ?2 + 86400000, NULL) FROM n";
    let versions = "INSERT INTO key_versions (key_id, version, digest, hint, created_at, expires_at, revoked_at) \
         SELECT CAST(printf('%016d', i) AS BLOB), 1, randomblob(32), printf('%04d', i % 10000), ?2 - (?1 - i) * 315000, \
           iif(i % 10 = 2, ?2 + 3600000, NULL), iif(i % 10 = 1, ?2 - 1000, NULL) FROM n \
         UNION ALL SELECT CAST(printf('%016d', i) AS BLOB), 2, randomblob(32), printf('%04d', i % 10000), ?2 - 1000, NULL, \
           NULL FROM n WHERE i % 10 = 2";
    for statement in [keys, versions] {
        sqlx::query(sqlx::AssertSqlSafe(format!("{numbers}{statement}")))
            .bind(count)
            .bind(END)
            .execute(transaction.connection())
            .await
            .unwrap();
    }
    transaction.commit().await.unwrap();
    let mut transaction = store.audit.begin().await.unwrap();
    let used = "INSERT INTO key_last_used SELECT CAST(printf('%016d', i) AS BLOB), 1, ?2 - i * 60000 FROM n WHERE i % 2";
    sqlx::query(sqlx::AssertSqlSafe(format!("{numbers}{used}")))
        .bind(count)
        .bind(END)
        .execute(transaction.connection())
        .await
        .unwrap();
    transaction.commit().await.unwrap();
}

/// Inserts records of calls with a key in one transaction, with one prepared statement for each and nothing else that
/// ingest does, to measure SQLite alone.
pub async fn insert_one_by_one(store: &SqliteStore, records: &[AuditRecord]) {
    let mut transaction = store.audit.begin().await.unwrap();
    for record in records {
        let key = record.key.as_ref().unwrap();
        sqlx::query(
            "INSERT INTO audit_records (time, gateway, key_id, key_name, key_version, environment, method, endpoint, \
             path, status, decision, reason, latency_us, source_ip, request_id, request_bytes, response_bytes, \
             argument_hash, argument_hash_partial) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        )
        .bind(to_millis(record.time))
        .bind("edge")
        .bind(key.id)
        .bind(&key.name)
        .bind(key.version)
        .bind(key.environment.as_str())
        .bind(&record.method)
        .bind(&record.endpoint)
        .bind(&record.path)
        .bind(record.status)
        .bind(record.outcome.decision())
        .bind(record.outcome.reason())
        .bind(saturated(record.latency_us))
        .bind(record.source_ip.map(address_bytes))
        .bind(&record.request_id)
        .bind(saturated(record.request_bytes))
        .bind(saturated(record.response_bytes))
        .bind(digest_bytes(record.argument_hash))
        .bind(record.argument_hash_partial)
        .execute(transaction.connection())
        .await
        .unwrap();
    }
    transaction.commit().await.unwrap();
}
