//! Golden files: a test compares its text with the file in the repository, and `UPDATE_GOLDEN=1` writes the file.
//!
//! Only dev-dependencies and crates for tests may point to this crate.
#![allow(clippy::disallowed_methods, reason = "tests read and write files")]

pub mod markdown;
pub mod reference;

use std::fs;
use std::path::{Path, PathBuf};

/// Compares a text with the file of this name in `control-plane/golden`.
pub fn check(name: &str, text: &str) {
    compare(&root().join("control-plane/golden").join(name), text);
}

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Compares a text with a file.
fn compare(path: &Path, text: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let golden = fs::read_to_string(path).unwrap_or_default();
    let differs = golden.lines().zip(text.lines()).find(|(golden, text)| golden != text);
    assert!(
        golden == text,
        "{} differs; if that is meant: UPDATE_GOLDEN=1, and look at the change. The first line that does: {:?}",
        path.display(),
        differs.unwrap_or(("", "(one of them ends before the other)"))
    );
}
