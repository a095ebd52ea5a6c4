//! The audit log for a log system that is there already: records and gaps as OpenTelemetry logs, over HTTP to a collector.

mod exporter;
mod headers;
mod log_record;

pub use self::exporter::{Exporter, Next, OtlpError, OtlpSettings, Run, parse_endpoint};
pub use self::headers::read_headers;
