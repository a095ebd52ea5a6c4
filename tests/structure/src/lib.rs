//! Parses the Rust files of this repository and their imports.
//!
//! `tests/` contains the rules: the allowed dependencies between crates, no import cycles among files, and the maximum
//! length of a file.

mod circles;
mod imports;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

pub use self::circles::circles;
pub use self::imports::{Module, Modules};

/// The folders with Rust code, relative to the root of the repository.
const FOLDERS: [&str; 5] = ["src", "policy", "control-plane", "tests", "bench"];

/// A Rust file.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Its path, relative to the root of the repository.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// The root of the repository.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// All Rust files of this repository, sorted by path, except build output and installed packages.
///
/// # Errors
/// If a folder or a file cannot be read.
pub fn source_files() -> Result<Vec<SourceFile>> {
    let root = root();
    let mut files = Vec::new();
    for folder in FOLDERS {
        collect(&root, &root.join(folder), &mut files)?;
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<SourceFile>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            if !["target", "node_modules"].iter().any(|skipped| name == *skipped) {
                collect(root, &path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
            files.push(SourceFile { path: path.strip_prefix(root)?.to_path_buf(), text });
        }
    }
    Ok(())
}
