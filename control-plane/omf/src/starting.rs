//! What is answered between the opened port and the opened databases, whose migration can take minutes.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use omniflow_api::Problem;
use omniflow_domain::error::{Error, ErrorCode};
use tower::ServiceExt;

/// The router of the control plane, once there is one.
#[derive(Clone, Debug, Default)]
pub(crate) struct StartingRouter(Arc<OnceLock<Router>>);

// === impl StartingRouter ===

impl StartingRouter {
    /// From now on, requests reach this router.
    pub(crate) fn set(&self, router: Router) {
        // It is set once.
        let _ = self.0.set(router);
    }

    /// A router that passes all requests on, and until then answers that the control plane is starting.
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
            // The process lives: a restart would begin the migration anew.
            None if request.uri().path() == "/healthz" => "ok\n".into_response(),
            None => {
                let detail = "The control plane is starting: it opens its databases, and migrates them if they are of an \
                              earlier release. Retry later.";
                Problem::from(Error::new(ErrorCode::NotReady, detail)).into_response()
            }
        }
    }
}
