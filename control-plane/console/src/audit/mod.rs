//! The audit log: the list of calls with a summary and gaps, live updates, exports, single calls and payloads.

mod export;
mod list;
mod live;
mod query;
mod record;
mod row;
mod summary;

#[cfg(test)]
mod tests;

use crate::routes::{AUDIT, PageRoutes, READ};

pub(super) fn routes(routes: PageRoutes) -> PageRoutes {
    routes
        .query("/audit", READ, list::show)
        .page("/audit/export", READ, export::download)
        .live("/audit/live", READ, live::stream)
        .page("/audit/{id}", READ, record::show)
        .form("/audit/{id}/payload", AUDIT, record::read_payload)
}
