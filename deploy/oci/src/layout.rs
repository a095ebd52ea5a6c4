//! The image layout: a directory with an image, its SBOM and their blobs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use flate2::read::GzDecoder;
use oci_client::manifest::{
    ImageIndexEntry, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciImageIndex, OciImageManifest,
};
use tar::Archive;

use crate::digest;
use crate::image::{Image, VERSION};

/// The annotation of the index with the tag of an image.
const REFERENCE: &str = "org.opencontainers.image.ref.name";

/// A directory with an image.
#[derive(Clone, Debug)]
pub struct Layout {
    folder: PathBuf,
}

/// A manifest of a layout, and its digest.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The digest of the bytes.
    pub digest: String,
    /// The bytes, as a registry stores them.
    pub bytes: Vec<u8>,
    /// The parsed bytes.
    pub parsed: OciImageManifest,
}

// === impl Layout ===

impl Layout {
    /// A layout in this folder, which need not exist yet.
    pub fn open(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf() }
    }

    /// Writes an image and its SBOM into a folder, and replaces the layout that is there.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(folder: &Path, image: &Image, sbom: &Image) -> Result<Self> {
        let layout = Self::open(folder);
        if folder.exists() {
            // Nothing but a layout is deleted.
            ensure!(folder.join("oci-layout").is_file(), "{} is not an image layout", folder.display());
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder.join("blobs/sha256"))?;
        for one in [image, sbom] {
            for blob in one.blobs.iter().chain([&one.manifest]) {
                fs::write(layout.blob_path(&digest(blob))?, blob)?;
            }
        }
        let mut tagged = entry(&image.manifest, None);
        tagged.annotations = Some([(REFERENCE.to_owned(), VERSION.to_owned())].into());
        let sbom_type = serde_json::from_slice::<OciImageManifest>(&sbom.manifest)?.artifact_type;
        let index = OciImageIndex {
            schema_version: 2,
            media_type: Some(OCI_IMAGE_INDEX_MEDIA_TYPE.to_owned()),
            manifests: vec![tagged, entry(&sbom.manifest, sbom_type)],
            artifact_type: None,
            annotations: None,
        };
        fs::write(folder.join("index.json"), serde_json::to_vec(&index)?)?;
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(layout)
    }

    /// The image.
    ///
    /// # Errors
    /// If the layout is incomplete or damaged.
    pub fn image(&self) -> Result<Manifest> {
        let manifests = self.manifests()?;
        manifests.into_iter().find(|one| one.parsed.subject.is_none()).context("the layout has no image")
    }

    /// The SBOM of the image.
    ///
    /// # Errors
    /// If the layout is incomplete or damaged.
    pub fn sbom(&self) -> Result<Manifest> {
        let image = self.image()?.digest;
        let refers =
            |one: &Manifest| one.parsed.subject.as_ref().is_some_and(|subject| subject.digest == image);
        self.manifests()?.into_iter().find(refers).context("the layout has no SBOM of its image")
    }

    /// A blob, whose digest is verified.
    ///
    /// # Errors
    /// If it is missing or damaged.
    pub fn blob(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.blob_path(name)?;
        let blob = fs::read(&path).with_context(|| path.display().to_string())?;
        ensure!(digest(&blob) == name, "the content of {} does not match its digest", path.display());
        Ok(blob)
    }

    /// Verifies that every blob is there, intact and used, and returns the compressed size of the layers of the image, in bytes.
    ///
    /// # Errors
    /// If the layout is incomplete or damaged, or contains other blobs.
    pub fn check(&self) -> Result<u64> {
        let mut used = BTreeSet::new();
        for manifest in [self.image()?, self.sbom()?] {
            for part in manifest.parsed.layers.iter().chain([&manifest.parsed.config]) {
                let size = self.blob(&part.digest)?.len();
                ensure!(i64::try_from(size)? == part.size, "{} has {size} bytes", part.digest);
                used.insert(part.digest.clone());
            }
            used.insert(manifest.digest);
        }
        for file in fs::read_dir(self.folder.join("blobs/sha256"))? {
            let name = format!("sha256:{}", file?.file_name().display());
            ensure!(used.contains(&name), "no manifest names {name}");
        }
        let layers = self.image()?.parsed.layers;
        Ok(layers.iter().map(|layer| layer.size.unsigned_abs()).sum())
    }

    /// Unpacks the layers of the image into an empty folder. All files belong to the user of this process.
    ///
    /// # Errors
    /// If the layout is damaged, or the folder cannot be written.
    pub fn unpack(&self, folder: &Path) -> Result<()> {
        for layer in self.image()?.parsed.layers {
            let blob = self.blob(&layer.digest)?;
            let mut archive = Archive::new(GzDecoder::new(blob.as_slice()));
            archive.set_preserve_permissions(true);
            archive.unpack(folder)?;
        }
        Ok(())
    }

    fn manifests(&self) -> Result<Vec<Manifest>> {
        let path = self.folder.join("index.json");
        let index = fs::read(&path).with_context(|| path.display().to_string())?;
        let index: OciImageIndex = serde_json::from_slice(&index)?;
        let read = |entry: ImageIndexEntry| {
            let bytes = self.blob(&entry.digest)?;
            Ok(Manifest { digest: entry.digest, parsed: serde_json::from_slice(&bytes)?, bytes })
        };
        index.manifests.into_iter().map(read).collect()
    }

    fn blob_path(&self, digest: &str) -> Result<PathBuf> {
        let hash =
            digest.strip_prefix("sha256:").filter(|hash| hash.bytes().all(|one| one.is_ascii_hexdigit()));
        let hash = hash.with_context(|| format!("{digest:?} is not a SHA-256 digest"))?;
        Ok(self.folder.join("blobs/sha256").join(hash))
    }
}

/// The entry of a manifest in an index.
pub(crate) fn entry(manifest: &[u8], artifact_type: Option<String>) -> ImageIndexEntry {
    ImageIndexEntry {
        media_type: OCI_IMAGE_MEDIA_TYPE.to_owned(),
        digest: digest(manifest),
        size: i64::try_from(manifest.len()).unwrap_or(i64::MAX),
        platform: None,
        annotations: None,
        artifact_type,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Source;

    fn write(folder: &Path) -> Layout {
        let source = Source { created: 1_700_000_000, revision: "0123".to_owned() };
        let image = Image::filter(b"\0asm".to_vec(), &source).unwrap();
        let sbom = image.sbom(br#"{"bomFormat":"CycloneDX"}"#.to_vec(), "filter", &source).unwrap();
        Layout::write(folder, &image, &sbom).unwrap()
    }

    #[test]
    fn layout_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let layout = write(&folder.path().join("image"));
        let image = layout.image().unwrap();
        assert_eq!(layout.check().unwrap(), image.parsed.layers[0].size.unsigned_abs());
        // The one that is there is replaced.
        assert_eq!(write(&folder.path().join("image")).image().unwrap().digest, image.digest);
    }

    #[test]
    fn damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let layout = write(&path);
        let layer = layout.image().unwrap().parsed.layers.remove(0).digest;
        let blob = layout.blob_path(&layer).unwrap();
        let content = fs::read(&blob).unwrap();
        fs::write(&blob, "other").unwrap();
        assert!(layout.check().unwrap_err().to_string().contains("does not match its digest"));
        fs::write(&blob, content).unwrap();
        fs::write(path.join("blobs/sha256/00"), "").unwrap();
        assert!(layout.check().unwrap_err().to_string().contains("no manifest names"));
    }

    #[test]
    fn other_folders_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let source = Source { created: 0, revision: String::new() };
        let image = Image::filter(b"\0asm".to_vec(), &source).unwrap();
        assert!(Layout::write(folder.path(), &image, &image).is_err());
        assert!(folder.path().join("file").exists());
    }
}
