//! The files of the pages, from the binary alone. Their names change with their content, so browsers may keep them.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use omniflow_policy::digest::Digest;

/// How many hexadecimal digits of the content's digest a name has.
const DIGITS: usize = 16;

/// The lifetime of a file in browsers: its name changes with its content.
const UNCHANGING: &str = "public, max-age=31536000, immutable";

/// Marks a response that browsers may keep: it holds nothing of an installation. Every other response is `no-store`.
#[derive(Clone, Copy, Debug)]
pub struct Cacheable;

/// A file.
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

    /// The file with this name, without the folder.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        let assets = [&*STYLE, &*SCRIPT, &*ICON];
        assets.into_iter().find(|asset| asset.path.strip_prefix("/assets/") == Some(name))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

impl IntoResponse for &Asset {
    fn into_response(self) -> Response {
        let headers = [(header::CONTENT_TYPE, self.media_type), (header::CACHE_CONTROL, UNCHANGING)];
        let mut response = (headers, self.content).into_response();
        response.extensions_mut().insert(Cacheable);
        response
    }
}
