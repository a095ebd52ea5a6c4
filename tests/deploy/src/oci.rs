//! The OCI images, a registry on this machine, and the rules by which Istio and Envoy Gateway fetch a filter from one.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use flate2::read::GzDecoder;
use omniflow_harness::ports::Port;
use omniflow_harness::process::Process;
use omniflow_harness::{Call, client, eventually, paths};
use omniflow_oci::digest;
use omniflow_oci::image::{Image, Source};
use omniflow_oci::layout::Layout;
use serde_json::Value;
use tempfile::TempDir;

use crate::tool;

const WAIT: Duration = Duration::from_secs(30);
/// An SBOM without components. `make images` attaches real ones.
const SBOM: &[u8] = br#"{"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": []}"#;
/// What a fetcher accepts.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// The images under test: those of `make images`, whose folder `OMF_IMAGES` names, or images of the built `omf` and filter.
#[derive(Debug)]
pub struct Images {
    /// The image of `omf`.
    pub omf: Layout,
    /// The image of the filter.
    pub filter: Layout,
    /// Whether `omf` needs the libraries of this machine.
    is_dynamic: bool,
    _folder: TempDir,
}

/// A registry on this machine, without TLS.
#[derive(Debug)]
pub struct LocalRegistry {
    port: Port,
    _process: Process,
    _folder: TempDir,
}

// === impl Images ===

impl Images {
    /// The images under test.
    ///
    /// # Errors
    /// If they are missing or cannot be built.
    pub fn get() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let built = std::env::var_os("OMF_IMAGES").map(PathBuf::from);
        let is_dynamic = built.is_none();
        let place = if let Some(built) = built {
            paths::root().join(built)
        } else {
            build(folder.path())?;
            folder.path().to_path_buf()
        };
        let [omf, filter] = ["omf", "omniflow-filter"].map(|name| Layout::open(&place.join(name)));
        Ok(Self { omf, filter, is_dynamic, _folder: folder })
    }

    /// A command that runs in the unpacked image of `omf`, as the kubelet runs it: as user 65532, without capabilities, with a
    /// read-only root and this volume for the data. It shares the network.
    ///
    /// # Errors
    /// If bubblewrap is missing.
    pub fn sandbox(&self, root: &Path, volume: &Path) -> Result<Command> {
        let mut command = tool("bwrap")?;
        command.args(["--unshare-all", "--share-net", "--die-with-parent", "--cap-drop", "ALL"]);
        command.args(["--uid", "65532", "--gid", "65532"]);
        for entry in fs::read_dir(root)? {
            let entry = entry?;
            command.arg("--ro-bind").arg(entry.path()).arg(Path::new("/").join(entry.file_name()));
        }
        if self.is_dynamic {
            command.args(["--ro-bind", "/lib", "/lib", "--ro-bind-try", "/lib64", "/lib64"]);
        }
        command.args(["--proc", "/proc", "--dev", "/dev", "--bind"]).arg(volume).arg("/var/lib/omniflow");
        command.args(["--remount-ro", "/", "--"]).env_clear();
        Ok(command)
    }
}

/// Writes the images of the built `omf` and filter.
fn build(folder: &Path) -> Result<()> {
    let source = Source { created: 1_700_000_000, revision: "0123".to_owned() };
    let program = folder.join("program");
    let mut strip = Command::new("strip");
    crate::debian::output(strip.arg("--strip-all").arg("-o").arg(&program).arg(paths::omf()?))?;
    let omf = Image::omf(fs::read(program)?, fs::read(paths::root().join("LICENSE"))?, &source)?;
    let filter = Image::filter(fs::read(paths::filter_wasm()?)?, &source)?;
    for (name, image) in [("omf", omf), ("omniflow-filter", filter)] {
        Layout::write(&folder.join(name), &image, &image.sbom(SBOM.to_vec(), name, &source)?)?;
    }
    Ok(())
}

// === impl LocalRegistry ===

impl LocalRegistry {
    /// Starts an empty one.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = Port::reserve()?;
        let config = folder.path().join("config.json");
        let address = client::local(port.number());
        let content = serde_json::json!({
            "version": 0.1,
            "log": {"accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": folder.path().join("storage")}},
            "http": {"addr": address.to_string()},
        });
        fs::write(&config, content.to_string())?;
        let mut command = tool("docker-registry")?;
        command.arg("serve").arg(&config);
        let process = Process::spawn("registry", &mut command, &folder.path().join("log"))?;
        eventually(WAIT, || async {
            let answer = client::call(port.number(), Call::get("/v2/")).await?;
            ensure!(answer.status == 200, "{}: {}", answer.status, process.log_end(5));
            Ok(())
        })
        .await?;
        Ok(Self { port, _process: process, _folder: folder })
    }

    /// The name of an image in it.
    pub fn reference(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", client::local(self.port.number()))
    }

    /// A manifest, by tag or digest.
    ///
    /// # Errors
    /// If there is none.
    pub async fn manifest(&self, repository: &str, reference: &str) -> Result<Vec<u8>> {
        self.get(&format!("/v2/{repository}/manifests/{reference}")).await
    }

    /// A blob, whose digest is verified.
    ///
    /// # Errors
    /// If it is missing or damaged.
    pub async fn blob(&self, repository: &str, name: &str) -> Result<Vec<u8>> {
        let blob = self.get(&format!("/v2/{repository}/blobs/{name}")).await?;
        ensure!(digest(&blob) == name, "the blob has the digest {}", digest(&blob));
        Ok(blob)
    }

    /// The filter, as the fetchers of Istio and Envoy Gateway get it. `sha256` is that of the manifest.
    ///
    /// # Errors
    /// If they refuse the image.
    pub async fn fetch_filter(&self, repository: &str, tag: &str, sha256: &str) -> Result<Vec<u8>> {
        let manifest = self.manifest(repository, tag).await?;
        let found = digest(&manifest);
        ensure!(found == format!("sha256:{sha256}"), "the manifest has the digest {found}");
        let manifest: Value = serde_json::from_slice(&manifest)?;
        let blob = self.blob(repository, plugin_layer(&manifest)?).await?;
        if blob.starts_with(b"\0asm") { Ok(blob) } else { plugin(&blob) }
    }

    async fn get(&self, path: &str) -> Result<Vec<u8>> {
        let answer = client::call(self.port.number(), Call::get(path).header("accept", MANIFESTS)).await?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
        Ok(answer.body)
    }
}

/// The digest of the layer that a fetcher takes from a manifest: the last one, if it is an archive of the kind that belongs to
/// the manifest; or the one with a module, of exactly two.
///
/// # Errors
/// If there is no such layer.
pub fn plugin_layer(manifest: &Value) -> Result<&str> {
    let layers = manifest["layers"].as_array().context("not a manifest of an image")?;
    let archive = if manifest["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json" {
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
    } else {
        "application/vnd.oci.image.layer.v1.tar+gzip"
    };
    let module = "application/vnd.module.wasm.content.layer.v1+wasm";
    let last = layers.last().filter(|layer| layer["mediaType"] == archive);
    let two = layers.iter().find(|layer| layers.len() == 2 && layer["mediaType"] == module);
    last.or(two).and_then(|layer| layer["digest"].as_str()).context("no layer with a filter")
}

/// The file `plugin.wasm` of a compressed archive.
fn plugin(archive: &[u8]) -> Result<Vec<u8>> {
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.path()?.file_name().is_some_and(|name| name == "plugin.wasm") {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            return Ok(content);
        }
    }
    bail!("no plugin.wasm in the layer")
}
