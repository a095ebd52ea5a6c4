//! What the images contain, and their metadata.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use oci_client::manifest::{
    IMAGE_CONFIG_MEDIA_TYPE, IMAGE_LAYER_GZIP_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciDescriptor,
    OciImageManifest,
};
use serde::Serialize;

use crate::digest;
use crate::layer::{Entry, Layer};

/// The version of the images, which is their tag.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The user and group that `omf` runs as, as in the chart.
pub const USER: u64 = 65532;
/// The type of an SBOM.
pub const SBOM_MEDIA_TYPE: &str = "application/vnd.cyclonedx+json";
/// The file that the fetchers of Istio and Envoy Gateway look for in the last layer.
const PLUGIN: &str = "plugin.wasm";
/// The type of the config of a manifest that is not an image.
const EMPTY_MEDIA_TYPE: &str = "application/vnd.oci.empty.v1+json";

/// The commit that the images are built from.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its time, in seconds since 1970, which is that of all files and images.
    pub created: u64,
    /// Its identifier.
    pub revision: String,
}

/// A manifest with its blobs: an image, or its SBOM.
#[derive(Clone, Debug)]
pub struct Image {
    /// The manifest, in JSON.
    pub manifest: Vec<u8>,
    /// The config and the layers, in the order of the manifest.
    pub blobs: Vec<Vec<u8>>,
}

/// The config of an image. Fields and labels have a fixed order.
#[derive(Serialize)]
struct ImageConfig<'a> {
    created: &'a str,
    architecture: &'a str,
    os: &'a str,
    config: Runtime<'a>,
    rootfs: RootFs<'a>,
    history: Vec<History<'a>>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Runtime<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    env: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entrypoint: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cmd: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_dir: Option<&'a str>,
    labels: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct RootFs<'a> {
    r#type: &'a str,
    diff_ids: [&'a str; 1],
}

#[derive(Serialize)]
struct History<'a> {
    created: &'a str,
    created_by: &'a str,
}

/// What differs between the two images.
struct Content<'a> {
    title: &'a str,
    description: &'a str,
    platform: (&'a str, &'a str),
    runtime: Runtime<'a>,
    entries: Vec<Entry>,
}

// === impl Source ===

impl Source {
    fn timestamp(&self) -> Result<String> {
        Ok(Timestamp::from_second(i64::try_from(self.created)?)?.to_string())
    }

    fn annotations(&self, title: &str, description: &str) -> Result<BTreeMap<String, String>> {
        let created = self.timestamp()?;
        let pairs = [
            ("title", title),
            ("description", description),
            ("version", VERSION),
            ("revision", &self.revision),
            ("created", &created),
            ("licenses", "Apache-2.0"),
        ];
        let name =
            |(name, value): (&str, &str)| (format!("org.opencontainers.image.{name}"), value.to_owned());
        Ok(pairs.into_iter().map(name).collect())
    }
}

// === impl Image ===

impl Image {
    /// The image of `omf`: the static program and its license, and an empty directory for the data. It contains no CA
    /// certificates, because those of the public authorities are part of the program.
    ///
    /// # Errors
    /// If the program is not an ELF file for a known processor.
    pub fn omf(program: Vec<u8>, license: Vec<u8>, source: &Source) -> Result<Self> {
        let architecture = architecture(&program)?;
        let data = Entry { mode: 0o700, owner: USER, ..Entry::directory("var/lib/omniflow/") };
        let entries = vec![
            Entry::directory("usr/"),
            Entry::directory("usr/bin/"),
            Entry::program("usr/bin/omf", program),
            Entry::directory("usr/share/"),
            Entry::directory("usr/share/doc/"),
            Entry::directory("usr/share/doc/omf/"),
            Entry::file("usr/share/doc/omf/LICENSE", license),
            Entry::directory("var/"),
            Entry::directory("var/lib/"),
            data,
        ];
        let runtime = Runtime {
            user: Some(format!("{USER}:{USER}")),
            env: vec!["PATH=/usr/bin", "OMF_DATA_DIR=/var/lib/omniflow/data"],
            entrypoint: vec!["/usr/bin/omf"],
            cmd: vec!["serve"],
            working_dir: Some("/"),
            ..Runtime::default()
        };
        let content = Content {
            title: "omf",
            description: "The control plane of Omniflow Keys",
            platform: ("linux", architecture),
            runtime,
            entries,
        };
        content.image(source)
    }

    /// The image of the filter: one layer with one file.
    ///
    /// # Errors
    /// If the filter is not a WebAssembly module.
    pub fn filter(module: Vec<u8>, source: &Source) -> Result<Self> {
        anyhow::ensure!(module.starts_with(b"\0asm"), "the filter is not a WebAssembly module");
        let content = Content {
            title: "omniflow-filter",
            description: "The filter of Omniflow Keys for Envoy",
            platform: ("wasip1", "wasm"),
            runtime: Runtime::default(),
            entries: vec![Entry::file(PLUGIN, module)],
        };
        content.image(source)
    }

    /// The artifact with the SBOM of an image, which it refers to as its `subject`.
    ///
    /// # Errors
    /// If it is not a CycloneDX document, or if the time of the source is out of range.
    pub fn sbom(&self, sbom: Vec<u8>, title: &str, source: &Source) -> Result<Self> {
        let document: serde_json::Value = serde_json::from_slice(&sbom).context("SBOM")?;
        anyhow::ensure!(document["bomFormat"] == "CycloneDX", "the SBOM is not a CycloneDX document");
        let empty = b"{}".to_vec();
        let mut layer = descriptor(SBOM_MEDIA_TYPE, &sbom);
        let name = ("org.opencontainers.image.title".to_owned(), format!("{title}.cdx.json"));
        layer.annotations = Some(BTreeMap::from([name]));
        let created = ("org.opencontainers.image.created".to_owned(), source.timestamp()?);
        let manifest = OciImageManifest {
            media_type: Some(OCI_IMAGE_MEDIA_TYPE.to_owned()),
            artifact_type: Some(SBOM_MEDIA_TYPE.to_owned()),
            config: descriptor(EMPTY_MEDIA_TYPE, &empty),
            layers: vec![layer],
            subject: Some(descriptor(OCI_IMAGE_MEDIA_TYPE, &self.manifest)),
            annotations: Some(BTreeMap::from([created])),
            ..OciImageManifest::default()
        };
        Ok(Self { manifest: serde_json::to_vec(&manifest)?, blobs: vec![empty, sbom] })
    }
}

// === impl Content ===

impl Content<'_> {
    fn image(mut self, source: &Source) -> Result<Image> {
        let created = source.timestamp()?;
        let annotations = source.annotations(self.title, self.description)?;
        self.runtime.labels = annotations.clone();
        let layer = Layer::new(self.entries, source.created)?;
        let (os, architecture) = self.platform;
        let config = serde_json::to_vec(&ImageConfig {
            created: &created,
            architecture,
            os,
            config: self.runtime,
            rootfs: RootFs { r#type: "layers", diff_ids: [&layer.diff_id] },
            history: vec![History { created: &created, created_by: "make images" }],
        })?;
        let manifest = OciImageManifest {
            media_type: Some(OCI_IMAGE_MEDIA_TYPE.to_owned()),
            config: descriptor(IMAGE_CONFIG_MEDIA_TYPE, &config),
            layers: vec![descriptor(IMAGE_LAYER_GZIP_MEDIA_TYPE, &layer.blob)],
            annotations: Some(annotations),
            ..OciImageManifest::default()
        };
        Ok(Image { manifest: serde_json::to_vec(&manifest)?, blobs: vec![config, layer.blob] })
    }
}

/// The descriptor of a blob.
pub fn descriptor(media_type: &str, blob: &[u8]) -> OciDescriptor {
    OciDescriptor {
        media_type: media_type.to_owned(),
        digest: digest(blob),
        size: i64::try_from(blob.len()).unwrap_or(i64::MAX),
        ..OciDescriptor::default()
    }
}

/// The name of the processor that an ELF file is for.
fn architecture(program: &[u8]) -> Result<&'static str> {
    anyhow::ensure!(program.starts_with(b"\x7fELF"), "omf is not an ELF file");
    match program.get(18..20) {
        Some(b"\x3e\0") => Ok("amd64"),
        Some(b"\xb7\0") => Ok("arm64"),
        other => bail!("omf is for an unknown processor: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn source() -> Source {
        Source { created: 1_700_000_000, revision: "0123".to_owned() }
    }

    fn program() -> Vec<u8> {
        let mut program = b"\x7fELF".to_vec();
        program.resize(18, 0);
        program.extend(b"\x3e\0");
        program
    }

    #[test]
    fn omf_runs_as_the_user_of_the_chart() {
        let image = Image::omf(program(), b"license".to_vec(), &source()).unwrap();
        let config: Value = serde_json::from_slice(&image.blobs[0]).unwrap();
        assert_eq!(config["architecture"], "amd64");
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/usr/bin/omf"]));
        assert_eq!(config["created"], "2023-11-14T22:13:20Z");
        assert_eq!(config["config"]["Labels"]["org.opencontainers.image.revision"], "0123");
    }

    #[test]
    fn sbom_refers_to_its_image() {
        let image = Image::filter(b"\0asm".to_vec(), &source()).unwrap();
        let sbom = image.sbom(br#"{"bomFormat":"CycloneDX"}"#.to_vec(), "filter", &source()).unwrap();
        let manifest: OciImageManifest = serde_json::from_slice(&sbom.manifest).unwrap();
        assert_eq!(manifest.subject.unwrap().digest, digest(&image.manifest));
        assert_eq!(manifest.artifact_type.unwrap(), SBOM_MEDIA_TYPE);
    }

    #[test]
    fn other_files_are_rejected() {
        assert!(Image::filter(program(), &source()).is_err());
        assert!(Image::omf(b"\0asm".to_vec(), Vec::new(), &source()).is_err());
        let image = Image::filter(b"\0asm".to_vec(), &source()).unwrap();
        assert!(image.sbom(b"{}".to_vec(), "filter", &source()).is_err());
    }
}
