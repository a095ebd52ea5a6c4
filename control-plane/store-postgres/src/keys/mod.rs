//! API keys and their versions.

mod credentials;
pub(crate) mod read;
mod write;
