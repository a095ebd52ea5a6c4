//! Responses while the databases are opened, since their migration can take minutes.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use omniflow_api::Problem;
use omniflow_domain::error::{Error, ErrorCode};
use tower::ServiceExt;

/// The router of the control plane, once it is set.
#[derive(Clone, Debug, Default)]
pub(crate) struct StartingRouter(Arc<OnceLock<Router>>);

// === impl StartingRouter ===

impl StartingRouter {
    /// Sends requests to this router from now on.
    pub(crate) fn set(&self, router: Router) {
        // Set only once.
        let _ = self.0.set(router);
    }

    /// A router that forwards all requests. Until a router is set, it responds that the control plane is starting.
    pub(crate) fn router(&self) -> Router {
        let front = self.clone();
        Router::new().fallback(move |request: Request| async move { front.answer(request).await })
    }

    async fn answer(self, request: Request) -> Response {
        match self.0.get() {
            Some(router) => {
                let answered: Result<Response, Infallible> = router.clone().oneshot(request).await;
                answered.unwrap_or_else(|never| match never {})
            }
            // The process is alive, and a restart would start the migration again.
            None if request.uri().path() == "/healthz" => "ok\n".into_response(),
            None => {
                let detail = "The control plane is starting: it is opening its databases, and migrating them if an earlier release wrote them. Retry later.";
                Problem::from(Error::new(ErrorCode::NotReady, detail)).into_response()
            }
        }
    }
}
