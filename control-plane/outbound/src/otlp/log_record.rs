//! Converts the audit log to OpenTelemetry log records. Attributes have the names of the semantic conventions, if there are
//! any, and otherwise begin with `omniflow.`. They contain no payloads and no secrets, like the log itself.

use omniflow_policy::time::UnixMillis;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::resource::v1::Resource;
use uuid::Uuid;

use omniflow_domain::audit::AuditEntry;
use omniflow_domain::time::format_time;
use omniflow_store::GapNotice;

use crate::source::stable_id;

/// The methods of the semantic conventions. Others are reported as `_OTHER`, with the original in a second attribute.
const METHODS: [&str; 10] =
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"];

/// Converts the audit log of an installation.
pub(super) struct Words {
    /// The installation.
    pub(super) installation: Uuid,
    /// The current time.
    pub(super) now: UnixMillis,
}

/// A list of attributes.
#[derive(Default)]
struct Attributes(Vec<KeyValue>);

// === impl Words ===

impl Words {
    /// Wraps records with the attributes of the installation.
    pub(super) fn resource_logs(&self, log_records: Vec<LogRecord>) -> ResourceLogs {
        let mut attributes = Attributes::default();
        attributes.text("service.name", "omniflow-keys");
        attributes.text("service.version", env!("CARGO_PKG_VERSION"));
        attributes.text("service.instance.id", self.installation.to_string());
        let scope = InstrumentationScope {
            name: "omniflow.audit".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_logs = vec![ScopeLogs { scope: Some(scope), log_records, schema_url: String::new() }];
        let resource = Resource { attributes: attributes.0, ..Resource::default() };
        ResourceLogs { resource: Some(resource), scope_logs, schema_url: String::new() }
    }

    /// One call, or several that were aggregated into one record.
    pub(super) fn call(&self, entry: &AuditEntry) -> LogRecord {
        let mut attributes = Attributes::default();
        attributes.text("log.record.uid", self.uid("record", entry.id, entry.time, &entry.request_id));
        attributes.int("omniflow.record.id", entry.id.cast_unsigned());
        attributes.text("omniflow.gateway", &entry.gateway);
        attributes.text("omniflow.decision", entry.outcome.decision());
        attributes.text("omniflow.reason", entry.outcome.reason());
        if entry.status > 0 {
            attributes.int("http.response.status_code", entry.status.into());
        }
        if let Some(status) = entry.grpc_status {
            attributes.int("rpc.grpc.status_code", status.into());
        }
        if let Some(interruption) = entry.interruption {
            attributes.text("omniflow.interruption", interruption.as_str());
        }
        if let Some(address) = entry.source_ip {
            attributes.text("client.address", address.to_string());
        }
        attributes.of_key(entry);
        let (name, body) = match entry.aggregated {
            Some(aggregated) => {
                attributes.int("omniflow.aggregated_calls", aggregated.calls);
                attributes.text("omniflow.first_time", format_time(aggregated.first_time));
                let (calls, reason) = (aggregated.calls, entry.outcome.reason());
                ("omniflow.audit.aggregate", format!("{calls} calls: {reason}"))
            }
            None => {
                attributes.of_call(entry);
                let (method, path, status) = (&entry.method, &entry.path, entry.status);
                ("omniflow.audit.call", format!("{method} {path} {status} {}", entry.outcome.reason()))
            }
        };
        let severity =
            if entry.outcome.decision() == "allowed" { SeverityNumber::Info } else { SeverityNumber::Warn };
        self.log_record(name, severity, entry.time, body, attributes)
    }

    /// A gap, or the withdrawal of one.
    pub(super) fn gap(&self, notice: &GapNotice) -> LogRecord {
        let GapNotice { gap, withdraws } = notice;
        let mut attributes = Attributes::default();
        attributes.text("log.record.uid", self.uid("gap", gap.id, gap.to, &gap.gateway));
        attributes.int("omniflow.gap.id", withdraws.unwrap_or(gap.id).cast_unsigned());
        attributes.text("omniflow.gap.cause", gap.cause.as_str());
        attributes.int("omniflow.gap.missing", gap.missing);
        attributes.bool("omniflow.gap.at_least", gap.is_least);
        if let Some(from) = gap.from {
            attributes.text("omniflow.gap.from", format_time(from));
        }
        attributes.text("omniflow.gap.to", format_time(gap.to));
        attributes.text("omniflow.gateway", &gap.gateway);
        if let Some(run) = &gap.incarnation {
            attributes.text("omniflow.gateway.incarnation", run);
        }
        if let Some(vm) = &gap.vm {
            attributes.text("omniflow.gateway.vm", vm);
        }
        let cause = gap.cause.as_str();
        if withdraws.is_some() {
            let body = format!("gap ({cause}) of gateway {} withdrawn: the gateway is live", gap.gateway);
            return self.log_record(
                "omniflow.audit.gap_withdrawn",
                SeverityNumber::Warn,
                self.now,
                body,
                attributes,
            );
        }
        let least = if gap.is_least { "at least " } else { "" };
        let (calls, have) = if gap.missing == 1 { ("call", "has") } else { ("calls", "have") };
        let (missing, gateway) = (gap.missing, &gap.gateway);
        let body = format!("{least}{missing} {calls} of gateway {gateway} {have} no record: {cause}");
        self.log_record("omniflow.audit.gap", SeverityNumber::Error, gap.to, body, attributes)
    }

    fn log_record(
        &self,
        event_name: &str,
        severity: SeverityNumber,
        time: UnixMillis,
        body: String,
        attributes: Attributes,
    ) -> LogRecord {
        LogRecord {
            time_unix_nano: nanos(time),
            observed_time_unix_nano: nanos(self.now),
            severity_number: severity.into(),
            severity_text: severity.as_str_name().trim_start_matches("SEVERITY_NUMBER_").to_owned(),
            body: Some(AnyValue { value: Some(Value::StringValue(body)) }),
            attributes: attributes.0,
            event_name: event_name.to_owned(),
            ..LogRecord::default()
        }
    }

    /// The ID by which a receiver recognizes a record that is sent again.
    fn uid(&self, kind: &str, id: i64, time: UnixMillis, detail: &str) -> String {
        stable_id(self.installation, kind, id, time, detail).to_string()
    }
}

fn nanos(time: UnixMillis) -> u64 {
    time.0.saturating_mul(1_000_000)
}

// === impl Attributes ===

impl Attributes {
    fn of_call(&mut self, entry: &AuditEntry) {
        if METHODS.contains(&entry.method.as_str()) {
            self.text("http.request.method", &entry.method);
        } else {
            self.text("http.request.method", "_OTHER");
            self.text("http.request.method_original", &entry.method);
        }
        self.text("url.path", &entry.path);
        if let Some(endpoint) = &entry.endpoint {
            self.text("http.route", endpoint);
        }
        self.int("http.request.body.size", entry.request_bytes);
        self.int("http.response.body.size", entry.response_bytes);
        self.int("omniflow.latency_us", entry.latency_us);
        self.text("omniflow.request_id", &entry.request_id);
        if let Some(hash) = entry.argument_hash {
            self.text("omniflow.argument_hash", hash.to_hex());
            self.bool("omniflow.argument_hash_partial", entry.argument_hash_partial);
        }
        self.bool("omniflow.has_payload", entry.has_payload);
    }

    fn of_key(&mut self, entry: &AuditEntry) {
        if let Some(key) = &entry.key {
            self.text("omniflow.key.id", key.id.to_string());
            self.text("omniflow.key.name", &key.name);
            self.int("omniflow.key.version", key.version.into());
            self.text("omniflow.key.environment", key.environment.as_str());
        }
    }

    fn text(&mut self, key: &str, value: impl Into<String>) {
        self.add(key, Value::StringValue(value.into()));
    }

    fn int(&mut self, key: &str, value: u64) {
        self.add(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn bool(&mut self, key: &str, value: bool) {
        self.add(key, Value::BoolValue(value));
    }

    fn add(&mut self, key: &str, value: Value) {
        let value = Some(AnyValue { value: Some(value) });
        self.0.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }
}
