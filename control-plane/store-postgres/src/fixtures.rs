//! What benchmarks compare the store with.

use std::fmt::Write as _;

use omniflow_policy::audit::AuditRecord;
use omniflow_policy::time::UnixMillis;

use crate::PostgresStore;
use crate::columns::{address_bytes, to_millis};
use crate::partitions::day_of;

const COPY: &str = "COPY audit_records (id, time, gateway, key_id, key_name, key_version, environment, method, endpoint, \
     path, status, decision, reason, latency_us, source_ip, request_id, request_bytes, response_bytes, argument_hash, \
     argument_hash_partial) FROM STDIN";

/// Creates the partitions for records of this time.
pub async fn create_day(store: &PostgresStore, time: UnixMillis) {
    let mut transaction = store.begin_log().await.unwrap();
    transaction.take_numbers(0, 0, vec![day_of(time)]).await.unwrap();
    transaction.commit().await.unwrap();
}

/// Calls with a key as input of [`copy`], with the numbers from `first`. No text may contain a tab, a line feed or a backslash.
pub fn copy_rows(first: i64, records: &[AuditRecord]) -> Vec<u8> {
    let mut rows = String::new();
    for (id, record) in (first..).zip(records) {
        let key = record.key.as_ref().unwrap();
        let address = record.source_ip.map(address_bytes).unwrap();
        writeln!(
            rows,
            "{id}\t{}\tedge\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t\\\\x{}\t{}\t{}\t{}\t\\\\x{}\tf",
            to_millis(record.time),
            key.id,
            key.name,
            key.version,
            key.environment.as_str(),
            record.method,
            record.endpoint.as_deref().unwrap_or("\\N"),
            record.path,
            record.status,
            record.outcome.decision(),
            record.outcome.reason(),
            record.latency_us,
            hex::encode(address),
            record.request_id,
            record.request_bytes,
            record.response_bytes,
            hex::encode(record.argument_hash.as_bytes()),
        )
        .unwrap();
    }
    rows.into_bytes()
}

/// Copies rows into the request log in one transaction, with nothing else that ingest does, to measure PostgreSQL alone.
pub async fn copy(store: &PostgresStore, rows: &[u8]) {
    let mut transaction = store.begin_log().await.unwrap();
    let connection = transaction.connection().start_statement().unwrap();
    let mut copy = connection.copy_in_raw(COPY).await.unwrap();
    copy.send(rows).await.unwrap();
    copy.finish().await.unwrap();
    transaction.connection().end_statement(Ok(Ok(()))).unwrap();
    transaction.commit().await.unwrap();
}
