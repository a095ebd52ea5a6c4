use omniflow_policy::payload::{CallPayload, FieldPointer, PayloadState};
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
fn json_fields_are_redacted_at_any_depth() {
    let fields = fields(&["/password", "/card/number", "/items/*/pin", "/list/1", "/a~1b/c~0d"]);
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
        (r#"{"pa\u017f\u017fword": "hunter2"}"#, r#"{"paſſword":"***"}"#),
        (r#"{"ｐassword": "hunter2"}"#, r#"{"ｐassword":"***"}"#),
        // Lists in place of an object.
        (r#"[{"password": "hunter2"}, 1]"#, r#"[{"password":"***"},1]"#),
        (r#"[[{"card": [{"number": "hunter2"}]}]]"#, r#"[[{"card":[{"number":"***"}]}]]"#),
        (r#"{"items": [[{"pin": "hunter2"}]]}"#, r#"{"items":[[{"pin":"***"}]]}"#),
        // JSON in strings.
        (r#"{"data": "{\"password\": \"hunter2\"}"}"#, r#"{"data":"{\"password\":\"***\"}"}"#),
        (r#"{"card": "{\"number\": \"hunter2\"}"}"#, r#"{"card":"{\"number\":\"***\"}"}"#),
        (r#"["[{\"password\": \"hunter2\"}]"]"#, r#"["[{\"password\":\"***\"}]"]"#),
        (r#""{\"password\": \"hunter2\"}""#, r#""{\"password\":\"***\"}""#),
        (
            r#"{"a": "{\"b\": \"{\\\"password\\\": \\\"hunter2\\\"}\"}"}"#,
            r#"{"a":"{\"b\":\"{\\\"password\\\":\\\"***\\\"}\"}"}"#,
        ),
        (r#"{"a": "{\"x\": {\"password\": \"hunter2\"}, \"x\": 1}"}"#, r#"{"a":"{\"x\":1}"}"#),
        (r#"{"a": "{password} [1"}"#, r#"{"a":"{password} [1"}"#),
        // Escapes in pointers.
        (r#"{"a/b": {"c~d": "hunter2"}, "a": {"b": 1}}"#, r#"{"a":{"b":1},"a/b":{"c~d":"***"}}"#),
        ("[]", "[]"),
        ("", ""),
    ] {
        for media_type in ["application/json; charset=utf-8", "application/vnd.api+json", "", "text/plain"] {
            let redacted = redact(payload("", body, media_type), &fields);
            assert_eq!((text(&redacted.body), redacted.state), (clean, PayloadState::Whole), "{body}");
        }
    }
}

#[test]
fn fields_of_urlencoded_bodies_and_queries_are_redacted() {
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
        ("pa%C5%BF%C5%BFword=hunter2", "pa%C5%BF%C5%BFword=***"),
        ("user[0][pin]=hunter2&user[][pin]=hunter2", "user[0][pin]=***&user[][pin]=***"),
        // {"password":"hunter2"} and {"pin":"hunter2"}
        ("payload=%7B%22password%22%3A%22hunter2%22%7D", "payload=%7B%22password%22%3A%22%2A%2A%2A%22%7D"),
        ("user=%7B%22pin%22%3A%22hunter2%22%7D", "user=%7B%22pin%22%3A%22%2A%2A%2A%22%7D"),
    ] {
        let redacted = redact(payload(form, form, "Application/X-WWW-Form-Urlencoded"), &fields);
        assert_eq!((text(&redacted.query), text(&redacted.body)), (clean, clean));
    }
}

#[test]
fn bodies_that_cannot_be_searched_are_removed() {
    let fields = fields(&["/password"]);
    let cut = payload("a=1", r#"{"password": "hunter2", "b"#, "application/json");
    let zipped = CallPayload { content_encoding: "gzip".into(), ..payload("a=1", "{}", "application/json") };
    let mut unknown = vec![cut, zipped, payload("a=1", "--b\r\npassword", "multipart/form-data; boundary=b")];
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
        let redacted = redact(unknown.clone(), &fields);
        assert_eq!((redacted.body.as_slice(), redacted.state), (&b""[..], PayloadState::NotRedactable));
        assert_eq!(redacted.query, b"a=1");
        assert_eq!(redact(unknown.clone(), &[]), unknown, "nothing to redact");
    }
}

#[test]
fn keys_are_redacted_everywhere() {
    let key = ["omf_live_", &"a1B2".repeat(12)].concat();
    let mut sent = payload(&["key=", &key].concat(), &["\u{1f511} ", &key].concat(), "text/plain");
    sent.body.insert(0, 0xff);
    let kept = redact(sent, &[]);
    assert_eq!(kept.query, b"key=omf_live_***");
    // Encoded ones, and those in headers.
    let (encoded, redacted) = (b"dXNlcjpvbWZfbGl2ZV9hMUIyYTFCMmExQjJhMUIyYTFCMg== x", b"***== x");
    assert_eq!(redact_secrets(encoded), Some(redacted.to_vec()));
    let sent = payload("", "x", &["a/b; c=", &key].concat());
    assert_eq!(redact(sent, &[]).media_type, "a/b; c=omf_live_***");
    assert_eq!(
        kept.body,
        ["\u{ff}".replace('\u{ff}', "").as_bytes(), b"\xff", "\u{1f511} omf_live_***".as_bytes()].concat()
    );
}

proptest! {
    #[test]
    fn no_body_contains_the_value_of_a_redacted_field(body: Vec<u8>, media_type in "application/(json|x-www-form-urlencoded)|") {
        let json = serde_json::json!({"a": String::from_utf8_lossy(&body), "password": SECRET}).to_string();
        let form = [&body.iter().filter(|byte| byte.is_ascii_alphabetic()).copied().collect::<Vec<_>>()[..],
            b"&password=", SECRET.as_bytes()].concat();
        for body in [json.into_bytes(), form] {
            let sent = CallPayload { body: body.clone(), ..payload("", "", &media_type) };
            let kept = redact(sent, &fields(&["/password"])).body;
            let contains_secret = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
            prop_assert!(contains_secret(&body) && !contains_secret(&kept), "{:?}", String::from_utf8_lossy(&kept));
        }
    }
}

#[test]
fn deeply_embedded_json_is_redacted_as_a_whole() {
    let mut body = r#"{"password": "hunter2"}"#.to_owned();
    for _ in 0..6 {
        body = serde_json::json!({ "a": body }).to_string();
    }
    let redacted = redact(payload("", &body, "application/json"), &fields(&["/password"]));
    assert!(!text(&redacted.body).contains("hunter2") && text(&redacted.body).contains("***"));
}

#[test]
fn text_that_is_too_expensive_to_search_is_not_stored() {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![0; 100_000_000]).unwrap();
    let bomb = CallPayload { body: encoder.finish().unwrap(), ..payload("a=1", "", "application/gzip") };
    let redacted = redact(bomb, &[]);
    assert_eq!((redacted.body.len(), redacted.state), (0, PayloadState::NotRedactable));
}
