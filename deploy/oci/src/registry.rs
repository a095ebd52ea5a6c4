//! Pushing an image and its SBOM to a registry.

use anyhow::{Context as _, Result, ensure};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::manifest::{OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

use crate::layout::{Layout, Manifest, entry};

/// A registry.
pub struct Registry {
    client: Client,
    credentials: RegistryAuth,
}

// === impl Registry ===

impl Registry {
    /// A registry with these credentials. Without `plain_http`, connections are encrypted.
    ///
    /// # Errors
    /// If the client cannot be set up.
    pub fn new(credentials: RegistryAuth, plain_http: bool) -> Result<Self> {
        let protocol = if plain_http { ClientProtocol::Http } else { ClientProtocol::Https };
        // An error means that there is a provider.
        let _previous = rustls::crypto::ring::default_provider().install_default();
        let config = ClientConfig { protocol, ..ClientConfig::default() };
        Ok(Self { client: Client::try_from(config).context("client of the registry")?, credentials })
    }

    /// Pushes the image under this reference, and its SBOM as a referrer. Returns the digest of the image.
    ///
    /// # Errors
    /// If the layout is damaged, or the registry refuses a part of it.
    pub async fn push(&self, layout: &Layout, reference: &Reference) -> Result<String> {
        layout.check()?;
        self.client.store_auth_if_needed(reference.resolve_registry(), &self.credentials).await;
        let (image, sbom) = (layout.image()?, layout.sbom()?);
        self.push_manifest(layout, &image, reference).await?;
        self.push_manifest(layout, &sbom, &sibling(reference, &sbom.digest)).await?;
        self.list_as_referrer(&image, &sbom, reference).await?;
        let stored = self.client.fetch_manifest_digest(reference, &self.credentials).await?;
        ensure!(stored == image.digest, "the registry stores {stored} instead of {}", image.digest);
        Ok(image.digest)
    }

    async fn push_manifest(&self, layout: &Layout, manifest: &Manifest, reference: &Reference) -> Result<()> {
        for part in manifest.parsed.layers.iter().chain([&manifest.parsed.config]) {
            if !self.client.blob_exists(reference, &part.digest).await? {
                self.client.push_blob(reference, layout.blob(&part.digest)?, &part.digest).await?;
            }
        }
        let media_type = OCI_IMAGE_MEDIA_TYPE.parse()?;
        self.client.push_manifest_raw(reference, manifest.bytes.clone(), media_type).await?;
        Ok(())
    }

    /// Registries that do not list referrers themselves have an index of them, under a tag made of the digest of the image.
    async fn list_as_referrer(&self, image: &Manifest, sbom: &Manifest, reference: &Reference) -> Result<()> {
        let subject = sibling(reference, &image.digest);
        let mut index = self.client.pull_referrers(&subject, None).await?;
        if index.manifests.iter().any(|one| one.digest == sbom.digest) {
            return Ok(());
        }
        index.media_type = Some(OCI_IMAGE_INDEX_MEDIA_TYPE.to_owned());
        index.manifests.push(entry(&sbom.bytes, sbom.parsed.artifact_type.clone()));
        let tag = Reference::with_tag(
            reference.registry().to_owned(),
            reference.repository().to_owned(),
            image.digest.replace(':', "-"),
        );
        self.client.push_manifest(&tag, &OciManifest::ImageIndex(index)).await?;
        Ok(())
    }
}

/// A manifest in the same repository.
fn sibling(reference: &Reference, digest: &str) -> Reference {
    let (registry, repository) = (reference.registry(), reference.repository());
    Reference::with_digest(registry.to_owned(), repository.to_owned(), digest.to_owned())
}
