//! The audit log: calls at a glance and one by one, what is missing among them, new ones as they come, and what one of
//! them sent.

mod glance;
mod list;
mod live;
mod query;
mod record;
mod row;

#[cfg(test)]
mod tests;

use crate::http::access::Authenticated;
use axum::response::IntoResponse;

pub(in crate::http::pages) use self::query::{for_field, instant};
use super::Section;
use super::refusal::PageResult;
use crate::http::audit::export::{ExportQuery, export};
use crate::http::extract::StrictQuery;
use crate::http::pages::routes::{AUDIT, PageRoutes, READ};
use crate::service::app::App;

pub(super) const SECTION: Section =
    Section { path: "/audit", label: "Audit", group: "Activity", access: READ, routes };

fn routes(routes: PageRoutes) -> PageRoutes {
    routes
        .page("/audit", READ, list::show)
        .page("/audit/export", READ, download)
        .live("/audit/live", READ, live::stream)
        .page("/audit/{id}", READ, record::show)
        .form("/audit/{id}/payload", AUDIT, record::read_payload)
}

/// `GET /audit/export`: the file that the API makes.
async fn download(
    app: axum::extract::State<std::sync::Arc<App>>,
    principal: Authenticated,
    query: StrictQuery<ExportQuery>,
) -> PageResult {
    Ok(export(app, principal, query).await?.into_response())
}
