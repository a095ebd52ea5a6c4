//! The routes of the console. Every page and form is declared with the roles that it admits; there is no other way to add
//! one.

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

/// One row of the table of routes.
#[derive(Clone, Debug)]
#[cfg_attr(not(test), allow(dead_code))]
pub(super) struct PageRoute {
    /// Its method.
    pub(super) method: Method,
    /// Its path template.
    pub(super) path: &'static str,
    /// The principals that it admits.
    pub(super) access: Access,
}

/// Calls the handler when it is the turn of the session's token.
async fn take_turn(
    State(log): State<Arc<RequestLog>>,
    Authenticated(principal): Authenticated,
    request: Request,
    next: Next,
) -> Result<Response, PageError> {
    let _turn = log.query_turn(&principal).await?;
    Ok(next.run(request).await)
}

/// The routes while they are declared.
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

    /// A page, for browsers that are signed in with a token that `access` admits.
    pub(super) fn page<H: Handler<T, AppState>, T: 'static>(
        self,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        self.add(MethodFilter::GET, Method::GET, path, access, RouteKind::Page, handler)
    }

    /// A page that runs a query of many rows, such as a list with filters. A token runs few of these at once.
    pub(super) fn query<H: Handler<T, AppState>, T: 'static>(
        self,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        let log = Arc::clone(&self.app.request_log);
        self.page(path, access, handler.layer(middleware::from_fn_with_state(log, take_turn)))
    }

    /// A part of a page that its script loads. Such a request does not keep a session from ending.
    pub(super) fn live<H: Handler<T, AppState>, T: 'static>(
        self,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        self.add(MethodFilter::GET, Method::GET, path, access, RouteKind::Live, handler)
    }

    /// The target of a form. The handler is called only if a page of this session has sent the form.
    pub(super) fn form<H: Handler<T, AppState>, T: 'static>(
        self,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        self.add(MethodFilter::POST, Method::POST, path, access, RouteKind::Form, handler)
    }

    /// The target of a form that runs a query of many rows.
    pub(super) fn query_form<H: Handler<T, AppState>, T: 'static>(
        self,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        let log = Arc::clone(&self.app.request_log);
        self.form(path, access, handler.layer(middleware::from_fn_with_state(log, take_turn)))
    }

    /// A file of the pages, for everybody and without a session.
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

    /// The routes.
    pub(super) fn router(self) -> Router<AppState> {
        self.router
    }

    /// The pages, forms and files, with the principals that each admits.
    #[cfg(test)]
    pub(super) fn table(&self) -> &[PageRoute] {
        &self.table
    }
}
