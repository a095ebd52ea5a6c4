//! The routes of the console. Each page and form declares the roles that it admits; there is no other way to add one.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodFilter, get, on};

use super::extract::Authenticated;
use super::page::PageError;
use super::route_kind::RouteKind;
use super::session_middleware::SessionMiddleware;
use crate::state::AppState;
use crate::state::Console;
pub(super) use omniflow_domain::access::{AUDIT, Access, OWNER, READ, WRITE};
use omniflow_service::audit::RequestLog;

/// A row of the route table.
#[derive(Clone, Debug)]
#[cfg_attr(not(test), allow(dead_code))]
pub(super) struct PageRoute {
    /// Method.
    pub(super) method: Method,
    /// Path template.
    pub(super) path: &'static str,
    /// Principals that it admits.
    pub(super) access: Access,
}

/// Waits until the session's token may run another query, then calls the handler.
async fn require_query_permit(
    State(log): State<Arc<RequestLog>>,
    Authenticated(principal): Authenticated,
    request: Request,
    next: Next,
) -> Result<Response, PageError> {
    let _permit = log.query_permit(&principal).await?;
    Ok(next.run(request).await)
}

/// Builder of the router and the route table.
pub(super) struct PageRoutes {
    app: Arc<Console>,
    router: Router<AppState>,
    table: Vec<PageRoute>,
}

// === impl PageRoutes ===

impl PageRoutes {
    pub(super) fn new(app: Arc<Console>) -> Self {
        Self { app, router: Router::new(), table: Vec::new() }
    }

    /// Adds a page for the principals that `access` admits.
    pub(super) fn page<H: Handler<T, AppState>, T: 'static>(
        self,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        self.add(MethodFilter::GET, Method::GET, path, access, RouteKind::Page, handler)
    }

    /// Adds a page that queries many rows, such as a list with filters. The number of concurrent queries per token is limited.
    pub(super) fn query<H: Handler<T, AppState>, T: 'static>(
        self,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        let handler = self.with_query_limit(handler);
        self.page(path, access, handler)
    }

    /// Adds a part of a page that the script loads. Its requests do not extend the session.
    pub(super) fn live<H: Handler<T, AppState>, T: 'static>(
        self,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        self.add(MethodFilter::GET, Method::GET, path, access, RouteKind::Live, handler)
    }

    /// Adds the target of a form. The handler runs only if a page of this session submitted the form.
    pub(super) fn form<H: Handler<T, AppState>, T: 'static>(
        self,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        self.add(MethodFilter::POST, Method::POST, path, access, RouteKind::Form, handler)
    }

    /// Adds the target of a form that queries many rows.
    pub(super) fn query_form<H: Handler<T, AppState>, T: 'static>(
        self,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        let handler = self.with_query_limit(handler);
        self.form(path, access, handler)
    }

    /// A handler that runs when the session's token may run another query.
    fn with_query_limit<H: Handler<T, AppState>, T: 'static>(
        &self,
        handler: H,
    ) -> impl Handler<T, AppState> + use<H, T> {
        let log = Arc::clone(&self.app.request_log);
        handler.layer(middleware::from_fn_with_state(log, require_query_permit))
    }

    /// Adds static files, which need no session.
    pub(super) fn asset<H: Handler<T, AppState>, T: 'static>(
        mut self,
        path: &'static str,
        handler: H,
    ) -> Self {
        self.table.push(PageRoute { method: Method::GET, path, access: Access::Public });
        self.router = self.router.route(path, get(handler));
        self
    }

    fn add<H: Handler<T, AppState>, T: 'static>(
        mut self,
        filter: MethodFilter,
        method: Method,
        path: &'static str,
        access: Access,
        kind: RouteKind,
        handler: H,
    ) -> Self {
        self.table.push(PageRoute { method, path, access });
        let session = SessionMiddleware::new(Arc::clone(&self.app), access, kind);
        let route =
            on(filter, handler).route_layer(middleware::from_fn_with_state(session, SessionMiddleware::pass));
        self.router = self.router.route(path, route);
        self
    }

    /// The router.
    pub(super) fn router(self) -> Router<AppState> {
        self.router
    }

    /// The route table.
    #[cfg(test)]
    pub(super) fn table(&self) -> &[PageRoute] {
        &self.table
    }
}
