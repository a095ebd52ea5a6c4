//! Keys: the model, the status, and rotation.

#[cfg(test)]
mod fixtures;
mod model;
mod query;
mod rotation;
mod status;

pub use self::model::{InvalidKeyOrder, Key, KeyOrder, KeyVersion, MAX_DESCRIPTION_LENGTH, MAX_HINT_LENGTH};
pub use self::query::{KeyQuery, KeyReference};
pub use self::rotation::{DEFAULT_OVERLAP, InvalidOverlap, MAX_OVERLAP, NotRotatable, Overlap};
pub use self::status::{InvalidKeyStatus, KeyStatus};
