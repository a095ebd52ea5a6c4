//! Builds, checks and pushes the OCI images. `make images` runs it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser, Subcommand};
use oci_client::Reference;
use oci_client::secrets::RegistryAuth;
use omniflow_oci::image::{Image, Source, VERSION};
use omniflow_oci::layout::Layout;
use omniflow_oci::registry::Registry;

/// Build, check and push the OCI images of omf and the filter
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the image layouts of omf and the filter
    Build(Build),
    /// Verify a layout, and print the digest and the size of its image
    Check {
        /// Image layout
        layout: PathBuf,
        /// Maximum compressed size of its layers, in KiB
        #[arg(long, value_name = "KIB")]
        max_size: u64,
    },
    /// Push an image and its SBOM to a registry
    Push(Push),
}

#[derive(Args)]
struct Push {
    /// Image layout
    layout: PathBuf,
    /// Where to push it, such as registry.example.com/omniflow/omf:0.1.0
    reference: Reference,
    /// User of the registry
    #[arg(long, requires = "password_file")]
    username: Option<String>,
    /// File with the password of the user
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,
    /// Connect without TLS and without credentials, to a registry on this machine
    #[arg(long, conflicts_with = "username")]
    plain_http: bool,
}

#[derive(Args)]
struct Build {
    /// Static program omf
    #[arg(long, value_name = "FILE")]
    omf: PathBuf,
    /// WebAssembly module of the filter
    #[arg(long, value_name = "FILE")]
    filter: PathBuf,
    /// License of the program
    #[arg(long, value_name = "FILE")]
    license: PathBuf,
    /// Directory with the SBOMs omf.cdx.json and omniflow-filter.cdx.json
    #[arg(long, value_name = "DIRECTORY")]
    sboms: PathBuf,
    /// Commit that both are built from
    #[arg(long, value_name = "COMMIT")]
    revision: String,
    /// Time of the commit, in seconds since 1970
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH")]
    created: u64,
    /// Directory in which to write the layouts omf and omniflow-filter
    folder: PathBuf,
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

fn build(arguments: &Build) -> Result<()> {
    let source = Source { created: arguments.created, revision: arguments.revision.clone() };
    let omf = Image::omf(read(&arguments.omf)?, read(&arguments.license)?, &source)?;
    let filter = Image::filter(read(&arguments.filter)?, &source)?;
    for (name, image) in [("omf", omf), ("omniflow-filter", filter)] {
        let sbom = image.sbom(read(&arguments.sboms.join(format!("{name}.cdx.json")))?, name, &source)?;
        Layout::write(&arguments.folder.join(name), &image, &sbom)?;
    }
    Ok(())
}

fn check(folder: &Path, max_size: u64) -> Result<()> {
    let layout = Layout::open(folder);
    let size = layout.check().with_context(|| folder.display().to_string())?;
    let kib = size.div_ceil(1024);
    println!("{}:{VERSION}: {kib} KiB\n{}", folder.display(), layout.image()?.digest);
    ensure!(kib <= max_size, "{} is larger than {max_size} KiB", folder.display());
    Ok(())
}

async fn push(arguments: Push) -> Result<()> {
    let credentials = match (arguments.username, arguments.password_file) {
        (Some(username), Some(file)) => {
            let password = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            RegistryAuth::Basic(username, password.trim_end_matches(['\r', '\n']).to_owned())
        }
        _ => RegistryAuth::Anonymous,
    };
    let registry = Registry::new(credentials, arguments.plain_http)?;
    let digest = registry.push(&Layout::open(&arguments.layout), &arguments.reference).await?;
    println!("{}\n{digest}", arguments.reference);
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Build(arguments) => build(&arguments),
        Command::Check { layout, max_size } => check(&layout, max_size),
        Command::Push(arguments) => push(arguments).await,
    }
}
