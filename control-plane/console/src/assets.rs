//! The static files of the pages, embedded in the binary. A name contains a digest of the content, so browsers may cache
//! files forever.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use omniflow_policy::digest::Digest;

/// Number of hexadecimal digits of the content's digest in a name.
const DIGITS: usize = 16;

/// `Cache-Control` of a file whose name changes with its content.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// Marks a response that browsers may cache because it contains no data of the installation. All others are `no-store`.
#[derive(Clone, Copy, Debug)]
pub struct Cacheable;

/// A static file.
pub(super) struct Asset {
    path: String,
    content: &'static str,
    media_type: &'static str,
}

/// The stylesheet of all pages.
pub(super) static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("style", "css", include_str!("../assets/style.css"), "text/css"));
/// The script of all pages.
pub(super) static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("script", "js", include_str!("../assets/script.js"), "text/javascript"));
/// The icon of all pages.
pub(super) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", include_str!("../assets/icon.svg"), "image/svg+xml"));

// === impl Asset ===

impl Asset {
    fn new(name: &str, extension: &str, content: &'static str, media_type: &'static str) -> Self {
        let digest = Digest::of(content.as_bytes()).to_hex();
        let digits = digest.get(..DIGITS).unwrap_or_default();
        Self { path: format!("/assets/{name}-{digits}.{extension}"), content, media_type }
    }

    /// Finds a file by its name below `/assets/`.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        let assets = [&*STYLE, &*SCRIPT, &*ICON];
        assets.into_iter().find(|asset| asset.path.strip_prefix("/assets/") == Some(name))
    }

    /// Path of the file.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

impl IntoResponse for &Asset {
    fn into_response(self) -> Response {
        let headers = [(header::CONTENT_TYPE, self.media_type), (header::CACHE_CONTROL, IMMUTABLE)];
        let mut response = (headers, self.content).into_response();
        response.extensions_mut().insert(Cacheable);
        response
    }
}
