//! Texts that are kept under review: a test compares with the file in `control-plane/golden`, and `UPDATE_GOLDEN=1`
//! writes it anew.

use std::fs;
use std::path::Path;

/// Compares a text with the golden file of this name.
pub fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    let differs = golden.lines().zip(text.lines()).find(|(golden, text)| golden != text);
    assert!(
        golden == text,
        "{} differs; if that is meant: UPDATE_GOLDEN=1, and look at the change. The first line that does: {:?}",
        path.display(),
        differs.unwrap_or(("", "(one of them ends before the other)"))
    );
}
