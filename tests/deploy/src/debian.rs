//! The Debian package, and a folder in which dpkg installs it as the root of a system.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use omniflow_harness::paths;
use tempfile::TempDir;

/// An SBOM without components. `make deb` writes real ones.
const SBOM: &str = r#"{"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": []}"#;

/// A folder that is the root of a system. Its database has the packages of this machine, for dependencies.
#[derive(Debug)]
pub struct SystemRoot {
    folder: TempDir,
}

/// Builds the package of the built `omf` and filter in a folder, quickly.
///
/// # Errors
/// If it cannot be built.
pub fn build(folder: &Path) -> Result<PathBuf> {
    let sboms = folder.join("sboms");
    fs::create_dir_all(&sboms)?;
    for name in ["omf", "omniflow-filter"] {
        fs::write(sboms.join(format!("{name}.cdx.json")), SBOM)?;
    }
    let mut command = Command::new(paths::root().join("scripts/build-deb.sh"));
    command.arg(paths::omf()?).arg(paths::filter_wasm()?).args([sboms, folder.join("packages")]);
    command.env("DPKG_DEB_COMPRESSOR_TYPE", "gzip").env("DPKG_DEB_COMPRESSOR_LEVEL", "1");
    Ok(PathBuf::from(output(&mut command)?.trim()))
}

/// A variant of a package with a change to its unpacked files, of which `DEBIAN` are those of its control archive.
///
/// # Errors
/// If it cannot be unpacked, changed or built.
pub fn rebuild(package: &Path, folder: &Path, change: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let (tree, rebuilt) = (folder.join("tree"), folder.join("rebuilt.deb"));
    output(Command::new("dpkg-deb").arg("--raw-extract").args([package, &tree]))?;
    change(&tree)?;
    let mut command = Command::new("dpkg-deb");
    command.args(["-Zgzip", "-z1", "--root-owner-group", "--build"]).args([&tree, &rebuilt]);
    output(&mut command)?;
    Ok(rebuilt)
}

/// The standard output of a command that succeeds.
///
/// # Errors
/// If it fails; the error contains its messages.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let messages = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}\n{messages}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

// === impl SystemRoot ===

impl SystemRoot {
    /// A new one, without files of packages.
    ///
    /// # Errors
    /// If this machine has no database of dpkg.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        // The user of the service must reach the files.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let root = Self { folder };
        for name in ["info", "updates", "triggers"] {
            fs::create_dir_all(root.path("var/lib/dpkg").join(name))?;
        }
        fs::copy("/var/lib/dpkg/status", root.path("var/lib/dpkg/status"))?;
        fs::write(root.folder.path().join("owners"), "")?;
        Ok(root)
    }

    /// A path in it.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("root").join(path)
    }

    /// Runs dpkg as on a system with this root. The scripts of the package run outside, with `DPKG_ROOT`.
    ///
    /// # Errors
    /// If dpkg cannot be started.
    pub fn dpkg<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Output> {
        let mut command = if is_superuser() {
            Command::new("dpkg")
        } else {
            // Keeps owners in a file, because the file system cannot.
            let owners = self.folder.path().join("owners");
            let mut command = Command::new("fakeroot");
            command.arg("-i").arg(&owners).arg("-s").arg(&owners).args(["--", "dpkg"]);
            command
        };
        command.arg(format!("--root={}", self.path("").display()));
        command.args(["--force-script-chrootless", "--force-confold"]).args(arguments);
        command
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive");
        Ok(command.output()?)
    }

    /// A program and arguments that run another program as this user of the system; nothing if the tests cannot change users.
    ///
    /// # Errors
    /// If there is no such user.
    pub fn run_as(&self, user: &str) -> Result<Vec<String>> {
        let users = fs::read_to_string(self.path("etc/passwd"))?;
        let entry = users.lines().find(|line| line.starts_with(&format!("{user}:")));
        let fields: Vec<&str> = entry.with_context(|| format!("no user {user}"))?.split(':').collect();
        let [_, _, uid, gid, ..] = fields[..] else { anyhow::bail!("{fields:?}") };
        if !is_superuser() {
            return Ok(Vec::new());
        }
        let arguments = ["setpriv", &format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups"];
        Ok(arguments.map(str::to_owned).to_vec())
    }
}

fn is_superuser() -> bool {
    // The owner of the process is that of its files.
    fs::metadata("/proc/self").is_ok_and(|process| std::os::unix::fs::MetadataExt::uid(&process) == 0)
}
