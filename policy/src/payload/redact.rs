//! Redaction: values of named fields are replaced, and so is what has the form of a key or token.
//!
//! A body in which the fields cannot be found for certain is not kept: one that is cut, compressed, or neither JSON nor
//! a form. What would be kept in doubt would be the secret that somebody wanted redacted.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Value;

use super::field::is_any;
use super::{CallPayload, FieldPointer, PayloadState};
use crate::path::decode_hex;
use crate::redaction::{REDACTED, blot_out_bytes};

impl CallPayload {
    /// What may be stored of it: without the values of these fields, and without what has the form of a key or token.
    ///
    /// Fields are looked for in JSON, in forms, and in the query string, where `a[b]` is the field `/a/b`. JSON is
    /// written anew, so that a name that stands there twice hides nothing.
    pub fn redacted(mut self, fields: &[FieldPointer]) -> Self {
        if !fields.is_empty() {
            self.query = redact_form(&self.query, fields);
            match self.redacted_body(fields) {
                Some(body) => self.body = body,
                None => {
                    self.body = Vec::new();
                    self.state = PayloadState::NotRedactable;
                }
            }
        }
        self.query = blot_out_bytes(&self.query).into_owned();
        self.body = blot_out_bytes(&self.body).into_owned();
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
        let is_form = media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded");
        // Whatever it is called: curl names everything a form, and some servers read JSON all the same.
        if is_form && self.body.iter().all(|byte| may_stand_in_a_form(*byte)) {
            return Some(redact_form(&self.body, fields));
        }
        redact_json(&self.body, fields)
    }
}

/// `None` if it is no JSON, which is also so where its end is missing.
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
            // In any case: some servers read names so.
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

/// Whether a form has such a byte, encoded as it is. XML, GraphQL, JSON and texts have others.
fn may_stand_in_a_form(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'"' | b'{' | b'}' | b'\\')
}

/// Pairs of name and value between `&`. Some servers divide them at `;` too, and most do not: behind a field that stands
/// after a `;` all is replaced up to the next `&`.
fn redact_form(form: &[u8], fields: &[FieldPointer]) -> Vec<u8> {
    let pairs: Vec<Vec<u8>> =
        form.split(|byte| *byte == b'&').map(|pair| redact_pair(pair, fields)).collect();
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

/// Frameworks write the field `/a/b` as `a[b]` or `a.b`.
fn is_field(name: &str, fields: &[FieldPointer]) -> bool {
    let name = name.trim();
    let parts = name.split(['[', '.']).map(|part| part.split(']').next().unwrap_or_default());
    let mut nested: Vec<&str> = parts.collect();
    if name.starts_with('[') {
        nested.remove(0);
    }
    fields.iter().any(|field| field.covers(&[name]) || field.covers(&nested))
}

/// A name as a server reads it.
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
mod tests {
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "hunter2";

    fn fields(pointers: &[&str]) -> Vec<FieldPointer> {
        pointers.iter().map(|pointer| pointer.parse().unwrap()).collect()
    }

    fn payload(query: &str, body: &str, media_type: &str) -> CallPayload {
        CallPayload {
            query: query.as_bytes().to_vec(),
            body: body.as_bytes().to_vec(),
            state: PayloadState::Whole,
            media_type: media_type.into(),
            content_encoding: String::new(),
        }
    }

    fn text(bytes: &[u8]) -> &str {
        core::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn fields_are_replaced_wherever_the_pointer_leads() {
        let fields = fields(&["/password", "/card/number", "/items/*/pin", "/list/1"]);
        for (body, clean) in [
            (r#"{"password": "hunter2", "a": 1}"#, r#"{"a":1,"password":"***"}"#),
            (r#"{"pass\u0077ord": {"deep": "hunter2"}}"#, r#"{"password":"***"}"#),
            (r#"{"password": "hunter2", "password": "hunter2"}"#, r#"{"password":"***"}"#),
            (r#"{"card": {"number": "hunter2"}, "card": {}}"#, r#"{"card":{}}"#),
            (
                r#"{"items": [{"pin": "hunter2"}, {"pin": 7}, {}]}"#,
                r#"{"items":[{"pin":"***"},{"pin":"***"},{}]}"#,
            ),
            (r#"{"items": {"x": {"pin": "hunter2"}}}"#, r#"{"items":{"x":{"pin":"***"}}}"#),
            (r#"{"list": [1, "hunter2"]}"#, r#"{"list":[1,"***"]}"#),
            (r#"{"b": "password"}"#, r#"{"b":"password"}"#),
            (r#"{"PASSWORD": "hunter2"}"#, r#"{"PASSWORD":"***"}"#),
            ("[]", "[]"),
            ("", ""),
        ] {
            for media_type in
                ["application/json; charset=utf-8", "application/vnd.api+json", "", "text/plain"]
            {
                let redacted = payload("", body, media_type).redacted(&fields);
                assert_eq!((text(&redacted.body), redacted.state), (clean, PayloadState::Whole), "{body}");
            }
        }
    }

    #[test]
    fn forms_and_queries_have_fields_too() {
        let fields = fields(&["/password", "/user/pin", "/all"]);
        for (form, clean) in [
            ("password=hunter2&a=1", "password=***&a=1"),
            ("a=1;password=hunter2", "a=1;password=***"),
            ("password=hunter2;hunter2&a=1", "password=***&a=1"),
            ("PassWord=hunter2&+password+=hunter2", "PassWord=***&+password+=***"),
            (
                "user.pin=hunter2&[password]=hunter2&user[pin]x=hunter2",
                "user.pin=***&[password]=***&user[pin]x=***",
            ),
            ("pass%77ord=hunter2=x", "pass%77ord=***"),
            ("user[pin]=hunter2&user%5Bname%5D=x", "user[pin]=***&user%5Bname%5D=x"),
            ("all[]=hunter2&all[x]=hunter2&allx=1", "all[]=***&all[x]=***&allx=1"),
            ("password&&=&password=", "password&&=&password=***"),
        ] {
            let redacted = payload(form, form, "Application/X-WWW-Form-Urlencoded").redacted(&fields);
            assert_eq!((text(&redacted.query), text(&redacted.body)), (clean, clean));
        }
    }

    #[test]
    fn what_cannot_be_searched_is_not_kept() {
        let fields = fields(&["/password"]);
        let cut = payload("a=1", r#"{"password": "hunter2", "b"#, "application/json");
        let zipped =
            CallPayload { content_encoding: "gzip".into(), ..payload("a=1", "{}", "application/json") };
        let mut unknown =
            vec![cut, zipped, payload("a=1", "--b\r\npassword", "multipart/form-data; boundary=b")];
        for body in [
            "<password>hunter2</password>",
            "\u{feff}{\"password\":\"hunter2\"}",
            ")]}',\n{\"password\":\"hunter2\"}",
            "mutation{login(password:\"hunter2\")}",
            "\u{1f}\u{8b}",
        ] {
            unknown.push(payload("a=1", body, "application/x-www-form-urlencoded"));
        }
        for unknown in unknown {
            let redacted = unknown.clone().redacted(&fields);
            assert_eq!((redacted.body.as_slice(), redacted.state), (&b""[..], PayloadState::NotRedactable));
            assert_eq!(redacted.query, b"a=1");
            assert_eq!(unknown.clone().redacted(&[]), unknown, "nothing to redact");
        }
    }

    #[test]
    fn keys_are_blotted_out_of_all_that_is_kept() {
        let key = ["omf_live_", &"a1B2".repeat(12)].concat();
        let mut sent = payload(&["key=", &key].concat(), &["\u{1f511} ", &key].concat(), "text/plain");
        sent.body.insert(0, 0xff);
        let kept = sent.redacted(&[]);
        assert_eq!(kept.query, b"key=omf_live_***");
        assert_eq!(
            kept.body,
            ["\u{ff}".replace('\u{ff}', "").as_bytes(), b"\xff", "\u{1f511} omf_live_***".as_bytes()]
                .concat()
        );
    }

    proptest! {
        #[test]
        fn no_body_shows_the_value_of_a_redacted_field(body: Vec<u8>, media_type in "application/(json|x-www-form-urlencoded)|") {
            let json = serde_json::json!({"a": String::from_utf8_lossy(&body), "password": SECRET}).to_string();
            let form = [&body.iter().filter(|byte| byte.is_ascii_alphabetic()).copied().collect::<Vec<_>>()[..],
                b"&password=", SECRET.as_bytes()].concat();
            for body in [json.into_bytes(), form] {
                let sent = CallPayload { body: body.clone(), ..payload("", "", &media_type) };
                let kept = sent.redacted(&fields(&["/password"])).body;
                let shows = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
                prop_assert!(shows(&body) && !shows(&kept), "{:?}", String::from_utf8_lossy(&kept));
            }
        }
    }
}
