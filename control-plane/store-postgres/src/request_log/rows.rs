//! Rows of the request log as one array for each column, so that a batch is one statement, whatever its size.

use std::borrow::Cow;

use omniflow_policy::audit::{AuditKey, AuditRecord, CallAggregate, Interruption};
use omniflow_policy::denial::Outcome;
use omniflow_policy::time::UnixMillis;
use omniflow_store::Result;
use omniflow_store::encoding::{address_bytes, digest_bytes, saturated, to_millis};
use uuid::Uuid;

use crate::text::storable;
use crate::transaction::PostgresTransaction;

const INSERT: &str = "INSERT INTO audit_records (id, gateway, time, first_time, aggregated_calls, key_id, key_name, \
     key_version, environment, method, endpoint, path, status, grpc_status, interruption, decision, reason, latency_us, \
     source_ip, request_id, request_bytes, response_bytes, argument_hash, argument_hash_partial) \
     SELECT $1 + n, $2, time, first_time, aggregated_calls, key_id, key_name, key_version, environment, method, endpoint, \
     path, status, grpc_status, interruption, decision, reason, latency_us, source_ip, request_id, request_bytes, \
     response_bytes, argument_hash, argument_hash_partial FROM unnest($3::bigint[], $4::bigint[], $5::bigint[], \
     $6::uuid[], $7::text[], $8::integer[], $9::text[], $10::text[], $11::text[], $12::text[], $13::integer[], \
     $14::bigint[], $15::text[], $16::text[], $17::text[], $18::bigint[], $19::bytea[], $20::text[], $21::bigint[], \
     $22::bigint[], $23::bytea[], $24::boolean[]) WITH ORDINALITY AS r (time, first_time, aggregated_calls, key_id, \
     key_name, key_version, environment, method, endpoint, path, status, grpc_status, interruption, decision, reason, \
     latency_us, source_ip, request_id, request_bytes, response_bytes, argument_hash, argument_hash_partial, n)";

/// Rows of `audit_records`, in the order of their numbers.
#[derive(Debug, Default)]
pub(crate) struct RecordRows<'a> {
    times: Vec<i64>,
    first_times: Vec<Option<i64>>,
    aggregated_calls: Vec<Option<i64>>,
    key_ids: Vec<Option<Uuid>>,
    key_names: Vec<Option<Cow<'a, str>>>,
    key_versions: Vec<Option<i32>>,
    environments: Vec<Option<&'static str>>,
    methods: Vec<Cow<'a, str>>,
    endpoints: Vec<Option<Cow<'a, str>>>,
    paths: Vec<Cow<'a, str>>,
    statuses: Vec<i32>,
    grpc_statuses: Vec<Option<i64>>,
    interruptions: Vec<Option<&'static str>>,
    decisions: Vec<&'static str>,
    reasons: Vec<&'static str>,
    latencies: Vec<i64>,
    source_ips: Vec<Option<Vec<u8>>>,
    request_ids: Vec<Cow<'a, str>>,
    request_bytes: Vec<i64>,
    response_bytes: Vec<i64>,
    argument_hashes: Vec<Vec<u8>>,
    argument_hashes_partial: Vec<bool>,
}

/// What a row has whether it is of one call or of several.
struct Common<'a> {
    time: UnixMillis,
    key: Option<&'a AuditKey>,
    status: u16,
    outcome: Outcome,
    source_ip: Option<std::net::IpAddr>,
}

// === impl RecordRows ===

impl<'a> RecordRows<'a> {
    /// The rows of these calls, and after them those of these aggregates.
    pub(crate) fn of(records: &[&'a AuditRecord], aggregated: &[&'a CallAggregate]) -> Self {
        let mut rows = Self::default();
        for record in records {
            rows.push_record(record);
        }
        for aggregate in aggregated {
            rows.push_aggregate(aggregate);
        }
        rows
    }

    fn push_record(&mut self, record: &'a AuditRecord) {
        self.push_common(&Common {
            time: record.time,
            key: record.key.as_ref(),
            status: record.status,
            outcome: record.outcome,
            source_ip: record.source_ip,
        });
        self.first_times.push(None);
        self.aggregated_calls.push(None);
        self.methods.push(storable(&record.method));
        self.endpoints.push(record.endpoint.as_deref().map(storable));
        self.paths.push(storable(&record.path));
        self.grpc_statuses.push(record.grpc_status.map(i64::from));
        self.interruptions.push(record.interruption.map(Interruption::as_str));
        self.latencies.push(saturated(record.latency_us));
        self.request_ids.push(storable(&record.request_id));
        self.request_bytes.push(saturated(record.request_bytes));
        self.response_bytes.push(saturated(record.response_bytes));
        self.argument_hashes.push(digest_bytes(record.argument_hash));
        self.argument_hashes_partial.push(record.argument_hash_partial);
    }

    /// Columns that differ between the calls stay empty.
    fn push_aggregate(&mut self, aggregate: &'a CallAggregate) {
        self.push_common(&Common {
            time: aggregate.last_time,
            key: aggregate.key.as_ref(),
            status: aggregate.status,
            outcome: aggregate.outcome,
            source_ip: aggregate.source_ip,
        });
        self.first_times.push(Some(to_millis(aggregate.first_time)));
        self.aggregated_calls.push(Some(saturated(aggregate.calls)));
        self.methods.push("".into());
        self.endpoints.push(None);
        self.paths.push("".into());
        self.grpc_statuses.push(None);
        self.interruptions.push(None);
        self.latencies.push(0);
        self.request_ids.push("".into());
        self.request_bytes.push(0);
        self.response_bytes.push(0);
        self.argument_hashes.push(Vec::new());
        self.argument_hashes_partial.push(false);
    }

    fn push_common(&mut self, row: &Common<'a>) {
        self.times.push(to_millis(row.time));
        self.key_ids.push(row.key.map(|key| key.id));
        self.key_names.push(row.key.map(|key| storable(&key.name)));
        self.key_versions.push(row.key.map(|key| key.version.into()));
        self.environments.push(row.key.map(|key| key.environment.as_str()));
        self.statuses.push(row.status.into());
        self.decisions.push(row.outcome.decision());
        self.reasons.push(row.outcome.reason());
        self.source_ips.push(row.source_ip.map(address_bytes));
    }
}

impl PostgresTransaction {
    /// Inserts rows, with the numbers after `before`.
    pub(crate) async fn insert_rows(
        &mut self,
        gateway: &str,
        before: i64,
        rows: RecordRows<'_>,
    ) -> Result<()> {
        if rows.times.is_empty() {
            return Ok(());
        }
        let insert = sqlx::query(INSERT)
            .bind(before)
            .bind(gateway)
            .bind(rows.times)
            .bind(rows.first_times)
            .bind(rows.aggregated_calls)
            .bind(rows.key_ids)
            .bind(rows.key_names)
            .bind(rows.key_versions)
            .bind(rows.environments)
            .bind(rows.methods)
            .bind(rows.endpoints)
            .bind(rows.paths)
            .bind(rows.statuses)
            .bind(rows.grpc_statuses)
            .bind(rows.interruptions)
            .bind(rows.decisions)
            .bind(rows.reasons)
            .bind(rows.latencies)
            .bind(rows.source_ips)
            .bind(rows.request_ids)
            .bind(rows.request_bytes)
            .bind(rows.response_bytes)
            .bind(rows.argument_hashes)
            .bind(rows.argument_hashes_partial);
        self.connection().execute(insert).await?;
        Ok(())
    }
}
