//! The OCI images of `omf` and the filter, as image layouts, without a container engine.
//!
//! | module | content |
//! |---|---|
//! | `layer` | archives of files, byte for byte the same for the same files |
//! | `image` | what the two images contain, and their metadata |
//! | `layout` | the directory that holds an image and its SBOM, and its checks |
//! | `registry` | pushing an image and its SBOM |
//!
//! The format is that of the OCI image specification 1.1. A layout holds one image for one processor, as a manifest without an
//! index: the fetchers of Istio and Envoy Gateway expect a manifest. The SBOM is an artifact whose `subject` is the image.

pub mod image;
pub mod layer;
pub mod layout;
pub mod registry;

use sha2::{Digest as _, Sha256};

/// The digest of a blob, such as `sha256:e3b0…`.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}
