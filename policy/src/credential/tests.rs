#[cfg(target_family = "wasm")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

fn find<'a>(headers: &[(&'a str, &'a str)]) -> Result<SentCredential<'a>, Denial> {
    find_credential(headers.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())), &KeyPrefix::default())
}

#[test]
fn a_key_is_found_in_either_header() {
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let value = alloc::format!("{scheme} omf_x");
        assert_eq!(find(&[("authorization", &value)]), Ok(SentCredential::Key(b"omf_x")));
    }
    assert_eq!(find(&[("accept", "a"), ("X-Api-Key", "omf_x")]), Ok(SentCredential::Key(b"omf_x")));
    assert_eq!(find(&[("x-api-key", "anything")]), Ok(SentCredential::Key(b"anything")));
}

#[test]
fn several_credentials_are_ambiguous() {
    for headers in [
        &[("authorization", "Bearer omf_x"), ("authorization", "Bearer omf_x")][..],
        &[("authorization", "Bearer omf_x"), ("x-api-key", "omf_x")],
        &[("authorization", "Bearer oauth"), ("x-api-key", "omf_x")],
        &[("authorization", "Basic abc"), ("X_API_KEY", "omf_x")],
        &[("x-api-key", "a"), ("x-api-key", "")],
        &[("authorization", "Bearer omf_x, Bearer omf_y")],
        &[("x-api-key", "omf_x,omf_y")],
    ] {
        assert_eq!(find(headers), Err(Denial::AmbiguousCredentials), "{headers:?}");
    }
}

#[test]
fn a_request_without_a_credential_is_missing_credentials() {
    assert_eq!(find(&[("cookie", "omf_x")]), Err(Denial::MissingCredentials));
    assert_eq!(find(&[("authorization", "")]), Err(Denial::MissingCredentials));
}

#[test]
fn malformed_bearer_tokens_are_rejected() {
    for value in
        ["Bearer", "Bearer ", "Bearer  omf_x", "Bearer omf_x ", "Bearer omf x", "Bearer\tomf_x", "omf_x"]
    {
        let expected = if value == "Bearer\tomf_x" {
            Ok(SentCredential::NonKey { token: None, denial: Denial::MissingCredentials })
        } else {
            Err(Denial::MalformedKey)
        };
        assert_eq!(find(&[("authorization", value)]), expected, "{value:?}");
    }
}

#[test]
fn other_tokens_and_schemes_are_not_keys() {
    let oauth = SentCredential::NonKey { token: Some(b"eyJ.x.y"), denial: Denial::MalformedKey };
    assert_eq!(find(&[("authorization", "Bearer eyJ.x.y")]), Ok(oauth));
    let other = SentCredential::NonKey { token: None, denial: Denial::MissingCredentials };
    assert_eq!(find(&[("authorization", "Basic abc=")]), Ok(other));
    assert_eq!(find(&[("authorization", "sk_live_x")]), Ok(other));
}

#[test]
fn spoofed_headers_are_forged_in_every_spelling() {
    for name in [
        "x-omniflow-key-id",
        "X-Omniflow-Anything",
        "x_omniflow_scopes",
        "x.omniflow.key.id",
        "x+omniflow+scopes",
        "x!omniflow!key!id",
        "x+http+method+override",
        "X-HTTP-Method-Override",
        "x-original-url",
    ] {
        assert_eq!(header_role(name.as_bytes()), HeaderRole::Forged, "{name}");
    }
    for name in ["x-omniflow", "x-omniflo-key", "", "accept"] {
        assert_eq!(header_role(name.as_bytes()), HeaderRole::Other, "{name}");
    }
}
