//! `GET /gateway/v1/images/{version}/chunks/{n}`: an image, a piece at a time.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use crate::app::App;
use crate::http::code::Code;
use crate::http::extract::Segments;
use crate::http::problem::Problem;

pub(super) async fn chunk(
    State(app): State<Arc<App>>,
    Segments((version, n)): Segments<(u64, u32)>,
) -> Result<impl IntoResponse, Problem> {
    let image = app.publication.offered(version, app.now()).ok_or_else(|| {
        Problem::new(Code::ImageGone, "This version is no longer kept. Poll for the present one.")
    })?;
    let chunk = image.chunk(n).ok_or_else(|| Problem::not_found("The image has fewer chunks."))?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], chunk))
}
