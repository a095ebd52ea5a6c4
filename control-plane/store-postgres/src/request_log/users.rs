//! The clients of calls.

use omniflow_store::AuditedUser;
use omniflow_store::encoding::request_log::user;

use super::search::Head;

/// The origin and destination of a call.
pub(super) const USERS: Head<AuditedUser> = Head {
    columns: "time, key_id, key_name, endpoint, source_ip, coalesce(aggregated_calls, 1), id",
    read: user,
};
