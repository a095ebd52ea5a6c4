//! The query parameters of lists, and how they are parsed into the requests of the use cases. The API reads them from its
//! URLs, the console fills them from its forms. An empty parameter counts as absent, because forms send empty fields.

mod admin_log;
mod anomalies;
mod audit;
mod in_progress;
mod keys;
mod last_event_id;
mod page;
mod query;

pub use self::admin_log::AdminLogParameters;
pub use self::anomalies::AnomalyParameters;
pub use self::audit::{AuditParameters, ExportParameters, StatsParameters};
pub use self::in_progress::InProgressParameters;
pub use self::keys::KeyParameters;
pub use self::last_event_id::{LAST_EVENT_ID, last_event_id, record_number};
pub use self::page::{PageParameters, cursor};
pub use self::query::{InvalidQuery, Parser};
