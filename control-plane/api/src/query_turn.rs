//! The middleware of endpoints whose queries may take long: each token has few turns at once.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::access::Authenticated;
use super::problem::Problem;
use omniflow_service::audit::RequestLog;

/// Calls the handler when it is the token's turn.
pub(super) async fn take(
    State(log): State<Arc<RequestLog>>,
    Authenticated(principal): Authenticated,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let _turn = log.query_turn(&principal).await?;
    Ok(next.run(request).await)
}
