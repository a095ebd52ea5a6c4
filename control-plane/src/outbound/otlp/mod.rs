//! The audit log for a log system that is there already: records and gaps as OpenTelemetry logs, over HTTP to a collector.

mod exporter;
mod headers;
mod log_record;
#[cfg(test)]
mod tests;

pub(crate) use self::exporter::{Exporter, OtlpError, OtlpSettings, check_endpoint};
pub(crate) use self::headers::read_headers;
