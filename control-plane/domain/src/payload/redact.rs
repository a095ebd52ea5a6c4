//! Redaction of payloads: replaces the values of configured fields, and anything in the form of a key or
//! token.
//!
//! A body in which the fields cannot be found with certainty is not stored: one that is truncated,
//! compressed, or neither JSON nor URL-encoded. It could contain the very secret that the policy redacts.

use std::borrow::Cow;

use omniflow_policy::payload::{ANY_NAME, CallPayload, FieldPointer, PayloadState};
use omniflow_policy::redaction::REDACTED;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode, percent_encode};
use serde_json::Value;

use super::field_name::{FieldPath, matches, normalize};
use super::secrets::redact_secrets;

/// Maximum number of JSON texts within each other that are searched. Deeper ones are redacted as a whole.
const MAX_EMBEDDED: u8 = 4;

/// Returns the payload without the values of these fields, and without anything in the form of a key or
/// token.
///
/// Fields are searched in JSON, in URL-encoded bodies, and in the query string, where `a[b]` is the field
/// `/a/b`. JSON is serialized again, so that a duplicate name cannot hide a value.
pub fn redact(mut payload: CallPayload, fields: &[FieldPointer]) -> CallPayload {
    if !fields.is_empty() {
        let paths: Vec<FieldPath> = fields.iter().map(FieldPath::new).collect();
        payload.query = redact_urlencoded(&payload.query, &paths);
        payload.body = redact_body(&payload, &paths).unwrap_or_else(|| {
            payload.state = PayloadState::NotRedactable;
            Vec::new()
        });
    }
    let header = |text: &str| redact_secrets(text.as_bytes()).and_then(|clean| String::from_utf8(clean).ok());
    payload.media_type = header(&payload.media_type).unwrap_or_else(|| REDACTED.to_owned());
    payload.content_encoding = header(&payload.content_encoding).unwrap_or_else(|| REDACTED.to_owned());
    payload.query = redact_secrets(&payload.query).unwrap_or_else(|| REDACTED.into());
    payload.body = redact_secrets(&payload.body).unwrap_or_else(|| {
        payload.state = PayloadState::NotRedactable;
        Vec::new()
    });
    payload
}

fn redact_body(payload: &CallPayload, paths: &[FieldPath]) -> Option<Vec<u8>> {
    let body = &payload.body;
    if body.is_empty() {
        return Some(Vec::new());
    }
    if !matches!(payload.content_encoding.trim().to_ascii_lowercase().as_str(), "" | "identity") {
        return None;
    }
    let media_type = payload.media_type.split(';').next().unwrap_or_default().trim();
    let is_urlencoded = media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded");
    // The media type alone is not reliable: curl labels every body as URL-encoded, and some servers parse
    // it as JSON anyway.
    if is_urlencoded && body.iter().all(|byte| may_be_urlencoded(*byte)) {
        return Some(redact_urlencoded(body, paths));
    }
    // Invalid, for example, if it is truncated.
    let mut document: Value = serde_json::from_slice(body).ok()?;
    let search = Search { paths };
    search.redact(&mut document, &search.roots(), 0);
    serde_json::to_vec(&document).ok()
}

/// The search for fields in JSON documents. Each value is visited once, with all paths that lead to it.
struct Search<'p> {
    paths: &'p [FieldPath],
}

impl<'p> Search<'p> {
    fn roots(&self) -> Vec<&'p [String]> {
        self.paths.iter().map(FieldPath::names).collect()
    }

    /// Redacts the fields of a value, to which the rest of each of these paths applies.
    fn redact(&self, value: &mut Value, paths: &[&'p [String]], embedded: u8) {
        if paths.iter().any(|path| path.is_empty()) {
            *value = Value::from(REDACTED);
            return;
        }
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    let name = normalize(name);
                    let named = |path: &&'p [String]| {
                        path.split_first().filter(|(token, _)| matches(token, &name)).map(|(_, rest)| rest)
                    };
                    let below: Vec<&[String]> = paths.iter().filter_map(named).collect();
                    self.redact(member, &below, embedded);
                }
            }
            Value::Array(elements) => {
                for (index, element) in elements.iter_mut().enumerate() {
                    let below: Vec<&[String]> =
                        paths.iter().filter_map(|path| element_path(path, index)).collect();
                    self.redact(element, &below, embedded);
                }
            }
            Value::String(text) => {
                if let Some(redacted) = self.redact_text(text, paths, embedded) {
                    *text = redacted;
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// A text that contains JSON, redacted: in place of the text, and as a document of its own. `None` for any other text.
    fn redact_text(&self, text: &str, paths: &[&'p [String]], embedded: u8) -> Option<String> {
        if !text.trim_start().starts_with(['{', '[', '"']) {
            return None;
        }
        let mut document: Value = serde_json::from_str(text).ok()?;
        if embedded == MAX_EMBEDDED {
            return Some(REDACTED.to_owned());
        }
        let mut paths = paths.to_vec();
        paths.extend(self.roots());
        self.redact(&mut document, &paths, embedded + 1);
        serde_json::to_string(&document).ok()
    }
}

/// The rest of a path for an element of a list. A name applies to each element, because many servers accept a list in place of one
/// object.
fn element_path(path: &[String], index: usize) -> Option<&[String]> {
    let (token, rest) = path.split_first()?;
    match token.parse::<usize>() {
        Ok(number) => (number == index).then_some(rest),
        Err(_) if token == ANY_NAME => Some(rest),
        Err(_) => Some(path),
    }
}

/// Whether a URL-encoded body can contain this byte. XML, GraphQL, JSON and plain texts contain others.
fn may_be_urlencoded(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'"' | b'{' | b'}' | b'\\')
}

/// Redacts pairs of name and value, separated by `&`. Some servers also split them at `;`, and most do not:
/// the value of a field after a `;` is redacted up to the next `&`.
fn redact_urlencoded(text: &[u8], paths: &[FieldPath]) -> Vec<u8> {
    let pairs: Vec<Vec<u8>> = text.split(|byte| *byte == b'&').map(|pair| redact_pair(pair, paths)).collect();
    pairs.join(&b'&')
}

fn redact_pair(pair: &[u8], paths: &[FieldPath]) -> Vec<u8> {
    let mut start = 0;
    for piece in pair.split(|byte| *byte == b';') {
        let name = piece.split(|byte| *byte == b'=').next().unwrap_or_default();
        if name.len() < piece.len() && paths_below(&decode(name), paths).iter().any(|path| path.is_empty()) {
            let kept = pair.get(..start + name.len()).unwrap_or_default();
            return [kept, b"=", REDACTED.as_bytes()].concat();
        }
        start += piece.len() + 1;
    }
    let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
        Some(end) => pair.split_at(end + 1),
        None => (&b""[..], pair),
    };
    let below = paths_below(&decode(name.strip_suffix(b"=").unwrap_or_default()), paths);
    match (Search { paths }).redact_text(&decode(value), &below, 0) {
        Some(redacted) => {
            [name, percent_encode(redacted.as_bytes(), NON_ALPHANUMERIC).to_string().as_bytes()].concat()
        }
        None => pair.to_vec(),
    }
}

/// What of each path is below the field with this name. Frameworks write the field `/a/b` as `a[b]` or `a.b`.
fn paths_below<'p>(name: &str, paths: &'p [FieldPath]) -> Vec<&'p [String]> {
    let name = name.trim();
    let whole = [normalize(name)];
    let mut nested: Vec<String> =
        name.split(['[', '.']).map(|part| normalize(part.split(']').next().unwrap_or_default())).collect();
    if name.starts_with('[') {
        nested.remove(0);
    }
    let below = |path: &'p FieldPath| [path.below(&whole), path.below(&nested)];
    paths.iter().flat_map(below).flatten().collect()
}

/// Decodes a text as a server does.
fn decode(text: &[u8]) -> String {
    let spaced: Cow<'_, [u8]> = match text.contains(&b'+') {
        true => text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect::<Vec<u8>>().into(),
        false => text.into(),
    };
    percent_decode(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests;
