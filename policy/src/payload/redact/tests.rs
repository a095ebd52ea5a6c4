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
fn json_fields_are_redacted_at_any_depth() {
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
        for media_type in ["application/json; charset=utf-8", "application/vnd.api+json", "", "text/plain"] {
            let redacted = payload("", body, media_type).redacted(&fields);
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
    ] {
        let redacted = payload(form, form, "Application/X-WWW-Form-Urlencoded").redacted(&fields);
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
        let redacted = unknown.clone().redacted(&fields);
        assert_eq!((redacted.body.as_slice(), redacted.state), (&b""[..], PayloadState::NotRedactable));
        assert_eq!(redacted.query, b"a=1");
        assert_eq!(unknown.clone().redacted(&[]), unknown, "nothing to redact");
    }
}

#[test]
fn keys_are_redacted_everywhere() {
    let key = ["omf_live_", &"a1B2".repeat(12)].concat();
    let mut sent = payload(&["key=", &key].concat(), &["\u{1f511} ", &key].concat(), "text/plain");
    sent.body.insert(0, 0xff);
    let kept = sent.redacted(&[]);
    assert_eq!(kept.query, b"key=omf_live_***");
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
            let kept = sent.redacted(&fields(&["/password"])).body;
            let contains_secret = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
            prop_assert!(contains_secret(&body) && !contains_secret(&kept), "{:?}", String::from_utf8_lossy(&kept));
        }
    }
}
