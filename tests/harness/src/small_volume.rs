//! A small file system for the data directory of a control plane: a tmpfs in a mount namespace of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::control_plane::ControlPlane;

/// Mounts the file system over the data directory, which is the value of `--data-dir`, copies what is in `<directory>.seed`
/// into it, and runs the command.
const SCRIPT: &str = "mount -t tmpfs -o size=$0 tmpfs \"$4\" && \
    if [ -d \"$4.seed\" ]; then cp -a \"$4.seed/.\" \"$4\"; fi && exec \"$@\"";

/// The name of the file that takes up space.
const BALLAST: &str = "ballast";

/// The file system of a running control plane. It ends with the process.
#[derive(Debug)]
pub struct SmallVolume(PathBuf);

/// The wrapper of `omf serve` that gives its data directory a file system of this size: see
/// [`crate::control_plane::ControlPlaneOptions::wrapper`].
///
/// # Errors
///
/// Fails if the user may not mount file systems in a new user namespace.
pub fn small_volume_wrapper(mib: u64) -> Result<Vec<String>> {
    let wrapper = |size: &str| {
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT, size].map(str::to_owned)
    };
    let folder = tempfile::tempdir()?;
    let [program, arguments @ ..] = wrapper("64k");
    let mut probe = Command::new(program);
    probe.args(arguments).args(["true", "", ""]).arg(folder.path());
    let status = probe.status().context("unshare of util-linux is missing")?;
    ensure!(status.success(), "file systems cannot be mounted in a user namespace: {status}");
    Ok(wrapper(&format!("{mib}m")).to_vec())
}

// === impl SmallVolume ===

impl SmallVolume {
    /// The file system of this control plane, which was started with [`small_volume_wrapper`].
    pub fn of(control_plane: &ControlPlane) -> Self {
        Self(control_plane.process().path(control_plane.folder()))
    }

    /// Its free space in bytes.
    pub fn free_bytes(&self) -> Result<u64> {
        let stat = rustix::fs::statvfs(&self.0)?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    /// Writes a file, or makes it longer or shorter, so that this much space is left.
    pub fn leave(&self, bytes: u64) -> Result<()> {
        let ballast = self.0.join(BALLAST);
        let used = fs::metadata(&ballast).map(|metadata| metadata.len()).unwrap_or_default();
        let length = (self.free_bytes()? + used).checked_sub(bytes).context("less than that is free")?;
        write_zeros(&ballast, length)
    }

    /// Removes that file.
    pub fn clear(&self) -> Result<()> {
        Ok(fs::remove_file(self.0.join(BALLAST))?)
    }
}

fn write_zeros(path: &Path, length: u64) -> Result<()> {
    let file = fs::File::create(path)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length)?;
    Ok(())
}
