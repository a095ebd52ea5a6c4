//! Parses one JSON document, with the location of errors.

use omniflow_domain::error::Error;
use serde::de::DeserializeOwned;
use serde_path_to_error::{Segment, Track};

/// Parses one JSON document with nothing after it.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    // Serde would accept a list in place of an object, with the fields in the order of their declaration.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Error::invalid_json(None, "Expected a JSON object, found a list."));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let mut track = Track::new();
    let value = T::deserialize(serde_path_to_error::Deserializer::new(&mut json, &mut track))
        .map_err(|error| Error::invalid_json(pointer(&track.path()), error.to_string()))?;
    json.end().map_err(|error| Error::invalid_json(None, error.to_string()))?;
    Ok(value)
}

/// A location in a JSON document as a JSON pointer (RFC 6901); `None` for the document itself.
pub(crate) fn pointer(path: &serde_path_to_error::Path) -> Option<String> {
    let mut pointer = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    (!pointer.is_empty()).then_some(pointer)
}
