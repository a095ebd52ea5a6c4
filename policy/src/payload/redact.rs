//! Redaction of payloads: replaces the values of configured fields, and anything in the form of a key or
//! token.
//!
//! A body in which the fields cannot be found with certainty is not stored: one that is truncated,
//! compressed, or neither JSON nor URL-encoded. It could contain the very secret that the policy redacts.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Value;

use super::field::is_any;
use super::{CallPayload, FieldPointer, PayloadState};
use crate::path::decode_hex;
use crate::redaction::{REDACTED, redact_bytes};

impl CallPayload {
    /// Returns the payload without the values of these fields, and without anything in the form of a key or
    /// token.
    ///
    /// Fields are searched in JSON, in URL-encoded bodies, and in the query string, where `a[b]` is the field
    /// `/a/b`. JSON is serialized again, so that a duplicate name cannot hide a value.
    pub fn redacted(mut self, fields: &[FieldPointer]) -> Self {
        if !fields.is_empty() {
            self.query = redact_urlencoded(&self.query, fields);
            match self.redacted_body(fields) {
                Some(body) => self.body = body,
                None => {
                    self.body = Vec::new();
                    self.state = PayloadState::NotRedactable;
                }
            }
        }
        self.query = redact_bytes(&self.query).into_owned();
        self.body = redact_bytes(&self.body).into_owned();
        self
    }

    fn redacted_body(&self, fields: &[FieldPointer]) -> Option<Vec<u8>> {
        if self.body.is_empty() {
            return Some(Vec::new());
        }
        if !matches!(self.content_encoding.trim().to_ascii_lowercase().as_str(), "" | "identity") {
            return None;
        }
        let media_type = self.media_type.split(';').next().unwrap_or_default().trim();
        let is_urlencoded = media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded");
        // The media type alone is not reliable: curl labels every body as URL-encoded, and some servers parse
        // it as JSON anyway.
        if is_urlencoded && self.body.iter().all(|byte| may_be_urlencoded(*byte)) {
            return Some(redact_urlencoded(&self.body, fields));
        }
        redact_json(&self.body, fields)
    }
}

/// Returns `None` if the body is not valid JSON, for example because it is truncated.
fn redact_json(body: &[u8], fields: &[FieldPointer]) -> Option<Vec<u8>> {
    let mut document: Value = serde_json::from_slice(body).ok()?;
    for field in fields {
        replace(&mut document, field.tokens());
    }
    serde_json::to_vec(&document).ok()
}

fn replace(value: &mut Value, tokens: &[String]) {
    let Some((token, rest)) = tokens.split_first() else {
        *value = Value::from(REDACTED);
        return;
    };
    match value {
        Value::Object(members) if is_any(token) => {
            members.values_mut().for_each(|member| replace(member, rest));
        }
        Value::Object(members) => {
            // Ignores case, because some servers do.
            for (_, member) in members.iter_mut().filter(|(name, _)| name.trim().eq_ignore_ascii_case(token))
            {
                replace(member, rest);
            }
        }
        Value::Array(elements) if is_any(token) => {
            elements.iter_mut().for_each(|element| replace(element, rest));
        }
        Value::Array(elements) => {
            if let Some(element) = token.parse().ok().and_then(|index: usize| elements.get_mut(index)) {
                replace(element, rest);
            }
        }
        _ => {}
    }
}

/// Whether a URL-encoded body can contain this byte. XML, GraphQL, JSON and plain texts contain others.
fn may_be_urlencoded(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'"' | b'{' | b'}' | b'\\')
}

/// Redacts pairs of name and value, separated by `&`. Some servers also split them at `;`, and most do not:
/// the value of a field after a `;` is redacted up to the next `&`.
fn redact_urlencoded(text: &[u8], fields: &[FieldPointer]) -> Vec<u8> {
    let pairs: Vec<Vec<u8>> =
        text.split(|byte| *byte == b'&').map(|pair| redact_pair(pair, fields)).collect();
    pairs.join(&b'&')
}

fn redact_pair(pair: &[u8], fields: &[FieldPointer]) -> Vec<u8> {
    let mut start = 0;
    for piece in pair.split(|byte| *byte == b';') {
        let name = piece.split(|byte| *byte == b'=').next().unwrap_or_default();
        if name.len() < piece.len() && is_field(&decode(name), fields) {
            let kept = pair.get(..start + name.len()).unwrap_or_default();
            return [kept, b"=", REDACTED.as_bytes()].concat();
        }
        start += piece.len() + 1;
    }
    pair.to_vec()
}

/// Whether a name is one of the fields. Frameworks write the field `/a/b` as `a[b]` or `a.b`.
fn is_field(name: &str, fields: &[FieldPointer]) -> bool {
    let name = name.trim();
    let parts = name.split(['[', '.']).map(|part| part.split(']').next().unwrap_or_default());
    let mut nested: Vec<&str> = parts.collect();
    if name.starts_with('[') {
        nested.remove(0);
    }
    fields.iter().any(|field| field.covers(&[name]) || field.covers(&nested))
}

/// Decodes a name as a server does.
fn decode(name: &[u8]) -> Cow<'_, str> {
    if !name.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return String::from_utf8_lossy(name);
    }
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        let encoded = after.split_first_chunk::<2>().filter(|_| *first == b'%');
        let (byte, after) = match encoded.and_then(|(digits, after)| Some((decode_hex(*digits)?, after))) {
            Some(decoded) => decoded,
            None if *first == b'+' => (b' ', after),
            None => (*first, after),
        };
        decoded.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&decoded).into_owned().into()
}

#[cfg(test)]
mod tests;
