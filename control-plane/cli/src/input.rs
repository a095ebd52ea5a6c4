//! Input files of commands; `-` is standard input.

use std::fs;
use std::io::{Read, stdin};

use anyhow::{Context, bail};
use zeroize::Zeroizing;

/// The file name of standard input.
const STANDARD_INPUT: &str = "-";

/// The display name of a file.
pub(crate) fn name(file: &str) -> &str {
    if file == STANDARD_INPUT { "standard input" } else { file }
}

/// The bytes of a file.
#[expect(clippy::disallowed_methods, reason = "commands are synchronous")]
pub(crate) fn bytes(file: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = match file {
        STANDARD_INPUT => stdin().read_to_end(&mut bytes).map(|_| bytes),
        file => fs::read(file),
    };
    read.with_context(|| name(file).to_owned())
}

/// The secret in a file, without the line end.
pub(crate) fn secret(file: &str) -> anyhow::Result<Zeroizing<String>> {
    let bytes = Zeroizing::new(bytes(file)?);
    let text = str::from_utf8(&bytes).ok().map(|text| text.trim_end_matches(['\r', '\n']));
    match text.filter(|text| !text.is_empty() && !text.contains(['\r', '\n'])) {
        Some(text) => Ok(Zeroizing::new(text.to_owned())),
        None => bail!("{} must contain exactly one line, with a key", name(file)),
    }
}
