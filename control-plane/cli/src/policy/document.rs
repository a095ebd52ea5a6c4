//! Policy documents as input, and how parts of them are printed.

use std::path::Path;

use clap::Args;
use omniflow_api_types::policy::ObstacleJson;
use serde::Serialize;

use crate::client::{Call, Method};
use crate::input;
use crate::output::cell;

/// Media type of TOML.
pub(super) const TOML: &str = "application/toml";

/// A policy document as an argument.
#[derive(Debug, Args)]
pub(super) struct DocumentArgs {
    /// Document file, or - for standard input; JSON unless its name ends in .toml.
    file: String,
    /// Read the document as TOML, regardless of the file name.
    #[arg(long)]
    toml: bool,
}

/// A document with its media type.
pub(super) struct Document {
    media_type: &'static str,
    bytes: Vec<u8>,
}

/// Formats settings as JSON on one line.
pub(super) fn json_text(settings: &impl Serialize) -> String {
    serde_json::to_value(settings).map(|json| json.to_string()).unwrap_or_default()
}

/// The reasons why a draft cannot be published, one per line.
pub(super) fn obstacles(blocked_by: &[ObstacleJson]) -> String {
    blocked_by.iter().map(|one| format!("Cannot be published: {}\n", cell(&one.detail))).collect()
}

// === impl DocumentArgs ===

impl DocumentArgs {
    /// Reads the document.
    pub(super) fn read(&self) -> anyhow::Result<Document> {
        let named_toml = Path::new(&self.file).extension().is_some_and(|extension| extension == "toml");
        let media_type = if self.toml || named_toml { TOML } else { "application/json" };
        Ok(Document { media_type, bytes: input::bytes(&self.file)? })
    }

    /// The display name of the file.
    pub(super) fn name(&self) -> String {
        input::name(&self.file).to_owned()
    }
}

// === impl Document ===

impl Document {
    /// A call with the document as its body.
    pub(super) fn call(self, method: Method, path: &str) -> Call {
        Call::new(method, path).body(self.media_type, self.bytes)
    }
}
