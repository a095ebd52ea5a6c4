//! Middleware of endpoints with long queries: it limits the concurrent queries of each token.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::access::Authenticated;
use super::problem::Problem;
use omniflow_service::audit::RequestLog;

/// Calls the handler once the token may run another query.
pub(super) async fn require(
    State(log): State<Arc<RequestLog>>,
    Authenticated(principal): Authenticated,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let _permit = log.query_permit(&principal).await?;
    Ok(next.run(request).await)
}
