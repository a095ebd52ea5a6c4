//! The audit log: calls summarised and one by one, what is missing among them, new ones as they come, and what one of
//! them sent.

mod export;
mod list;
mod live;
mod query;
mod record;
mod row;
mod summary;

#[cfg(test)]
mod tests;

pub(crate) use self::query::{for_field, instant};
use crate::routes::{AUDIT, PageRoutes, READ};

pub(super) fn routes(routes: PageRoutes) -> PageRoutes {
    routes
        .query("/audit", READ, list::show)
        .page("/audit/export", READ, export::download)
        .live("/audit/live", READ, live::stream)
        .page("/audit/{id}", READ, record::show)
        .form("/audit/{id}/payload", AUDIT, record::read_payload)
}
