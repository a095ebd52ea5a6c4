//! The document that a command of `omf policy` reads, and what is printed of one.

use std::path::Path;

use clap::Args;
use omniflow_api_types::policy::ObstacleJson;
use serde::Serialize;

use crate::client::{Call, Method};
use crate::input;
use crate::output::cell;

/// The media type of a document in TOML.
pub(super) const TOML: &str = "application/toml";

/// A document that a command reads.
#[derive(Debug, Args)]
pub(super) struct DocumentArgs {
    /// The document, - for standard input. A file called *.toml is TOML, anything else JSON.
    file: String,
    /// It is TOML, whatever the file is called.
    #[arg(long)]
    toml: bool,
}

/// The bytes of a document, and what they are.
pub(super) struct Document {
    media_type: &'static str,
    bytes: Vec<u8>,
}

/// Settings as JSON on one line.
pub(super) fn json_text(settings: &impl Serialize) -> String {
    serde_json::to_value(settings).map(|json| json.to_string()).unwrap_or_default()
}

/// Reasons for which a draft cannot be set, a line each.
pub(super) fn obstacles(blocked_by: &[ObstacleJson]) -> String {
    blocked_by.iter().map(|one| format!("It cannot be set: {}\n", cell(&one.detail))).collect()
}

// === impl DocumentArgs ===

impl DocumentArgs {
    /// Reads it.
    pub(super) fn read(&self) -> anyhow::Result<Document> {
        let named_toml = Path::new(&self.file).extension().is_some_and(|extension| extension == "toml");
        let media_type = if self.toml || named_toml { TOML } else { "application/json" };
        Ok(Document { media_type, bytes: input::bytes(&self.file)? })
    }

    /// What people call it.
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
