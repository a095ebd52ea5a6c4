//! Chunks of images.

use std::sync::Arc;

use omniflow_domain::error::{Error, ErrorCode};
use omniflow_policy::snapshot::Segment;

use super::GatewayProtocol;

// === impl GatewayProtocol ===

impl GatewayProtocol {
    /// The segments of a chunk of an image that was offered. They are shared with the image, however many gateways
    /// fetch the chunk at once.
    pub fn chunk(&self, version: u64, n: u32) -> Result<Vec<Arc<Segment<Vec<u8>>>>, Error> {
        let image = self.publisher.publication.offered(version, self.clock.now()).ok_or_else(|| {
            Error::new(ErrorCode::ImageGone, "This version is no longer available. Poll for the current one.")
        })?;
        let segments =
            image.image().chunk(n).ok_or_else(|| Error::not_found("The image has fewer chunks."))?;
        Ok(segments.iter().map(Arc::clone).collect())
    }
}
