//! The files of the pages, from the binary alone. Their names change with their content, so browsers may keep them.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use omniflow_policy::digest::Digest;

use super::error_page;
use super::routes::PageRoutes;
use omniflow_domain::error::Error;

/// How many hexadecimal digits of the content's digest a name has.
const DIGITS: usize = 16;

/// The lifetime of a file in browsers: its name changes with its content.
const UNCHANGING: &str = "public, max-age=31536000, immutable";

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

pub(super) fn routes(routes: PageRoutes) -> PageRoutes {
    routes.asset("/assets/{file}", async |Path(name): Path<String>| file(&name))
}

fn file(name: &str) -> Response {
    let assets = [&*STYLE, &*SCRIPT, &*ICON];
    let asset = assets.into_iter().find(|asset| asset.path.strip_prefix("/assets/") == Some(name));
    match asset {
        Some(asset) => {
            let headers = [(header::CONTENT_TYPE, asset.media_type), (header::CACHE_CONTROL, UNCHANGING)];
            (headers, asset.content).into_response()
        }
        None => {
            error_page::plain(&Error::not_found("No file of the pages has this name. Load the page anew."))
        }
    }
}

// === impl Asset ===

impl Asset {
    fn new(name: &str, extension: &str, content: &'static str, media_type: &'static str) -> Self {
        let digest = Digest::of(content.as_bytes()).to_hex();
        let digits = digest.get(..DIGITS).unwrap_or_default();
        Self { path: format!("/assets/{name}-{digits}.{extension}"), content, media_type }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}
