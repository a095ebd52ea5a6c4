//! `GET /gateway/v1/images/{version}/chunks/{n}`: an image, chunk by chunk.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use http_body::{Body as HttpBody, Frame, SizeHint};
use omniflow_policy::snapshot::Segment;

use crate::extract::Segments;
use crate::problem::Problem;
use omniflow_service::gateway_protocol::GatewayProtocol;

/// A body of consecutive segments. They are sent without a copy: a thousand gateways that download the same chunk share
/// one.
struct SegmentsBody(VecDeque<Bytes>);

struct SharedSegment(Arc<Segment<Vec<u8>>>);

#[utoipa::path(get, path = "/gateway/v1/images/{version}/chunks/{n}")]
pub(super) async fn chunk(
    State(protocol): State<Arc<GatewayProtocol>>,
    Segments((version, n)): Segments<(u64, u32)>,
) -> Result<impl IntoResponse, Problem> {
    let segments = protocol.chunk(version, n)?;
    let segments = segments.into_iter().map(|segment| Bytes::from_owner(SharedSegment(segment))).collect();
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], Body::new(SegmentsBody(segments))))
}

impl AsRef<[u8]> for SharedSegment {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl HttpBody for SegmentsBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|segment| Ok(Frame::data(segment))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|segment| segment.len() as u64).sum())
    }
}
