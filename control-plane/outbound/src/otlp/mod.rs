//! Export of the audit log as OpenTelemetry logs over OTLP/HTTP.

mod exporter;
mod headers;
mod log_record;

pub use self::exporter::{Exporter, Next, OtlpError, OtlpSettings, Run, parse_endpoint};
pub use self::headers::read_headers;
