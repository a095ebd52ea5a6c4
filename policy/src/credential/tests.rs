#[cfg(target_family = "wasm")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

fn find<'a>(headers: &[(&'a str, &'a str)]) -> Result<SentCredential<'a>, Denial> {
    find_counting(headers, CredentialHeader::Any)
}

fn find_counting<'a>(
    headers: &[(&'a str, &'a str)],
    counts: CredentialHeader,
) -> Result<SentCredential<'a>, Denial> {
    find_credential(headers.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())), &KeyPrefix::default(), counts)
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
fn the_commas_of_other_schemes_are_not_several_credentials() {
    let other = SentCredential::NonKey { token: None, denial: Denial::MissingCredentials };
    for value in [
        "Digest username=\"a, b\", realm=\"x\", qop=auth, nc=00000001, response=\"6629\"",
        "Digest username=\"a\\\", Bearer omf_x\",realm = \"x\"",
        "AWS4-HMAC-SHA256 Credential=AKID/20130524/us-east-1/s3/aws4_request, SignedHeaders=host;range, \
         Signature=fe5f80f7",
        "AWS4-HMAC-SHA256 Credential=AKID/20130524/us-east-1/s3/aws4_request,SignedHeaders=host,Signature=fe",
        "Hawk id=\"dh37\", ts=\"1353832234\", mac=\"6R4rV5iE+NPoym+WwjeHzjAGXUtLNIxmo1vpMofpLAE=\"",
        "OAuth realm=\"Example\", oauth_signature=\"wOJIO9A2W5mFwDgiDvZbTSMK%2FPY%3D\"",
    ] {
        assert_eq!(find(&[("authorization", value)]), Ok(other), "{value}");
        let both = [("authorization", value), ("x-api-key", "omf_x")];
        assert_eq!(find(&both), Err(Denial::AmbiguousCredentials), "{value}");
    }
}

#[test]
fn x_api_key_may_be_the_only_header_that_counts() {
    let with =
        |value| find_counting(&[("authorization", value), ("x-api-key", "omf_x")], CredentialHeader::XApiKey);
    for value in ["Bearer eyJ.x.y", "Basic abc=", "Digest a=b, c=d"] {
        assert_eq!(with(value), Ok(SentCredential::Key(b"omf_x")), "{value}");
    }
    for value in ["Bearer omf_y", "omf_y", "Bearer", "Bearer a, Bearer b", ""] {
        assert_eq!(with(value), Err(Denial::AmbiguousCredentials), "{value}");
    }
    let alone = find_counting(&[("authorization", "Bearer omf_y")], CredentialHeader::XApiKey);
    assert_eq!(alone, Ok(SentCredential::Key(b"omf_y")));
    let twice = [("x-api-key", "omf_x"), ("x-api-key", "omf_x")];
    assert_eq!(find_counting(&twice, CredentialHeader::XApiKey), Err(Denial::AmbiguousCredentials));
}

#[test]
fn a_method_override_is_refused_or_applied_and_never_dropped() {
    const NAME: &str = "X-HTTP-Method-Override";
    let find = |headers: &[(&'static str, &'static str)], method: &'static str, handling| {
        find_method(headers.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())), method.as_bytes(), handling)
    };
    let (refuse, apply) = (MethodOverride::Refuse, MethodOverride::Apply);
    let denied = Err(Denial::MethodOverridden);
    assert_eq!(find(&[("accept", "PATCH")], "POST", refuse), Ok(&b"POST"[..]));
    for name in [NAME, "x-http-method", "x_method_override", "x.http.method.override"] {
        assert_eq!(find(&[(name, "PATCH")], "POST", refuse), denied, "{name}");
        assert_eq!(find(&[(name, "PATCH")], "POST", apply), Ok(&b"PATCH"[..]), "{name}");
        assert_eq!(find(&[(name, "post")], "POST", refuse), Ok(&b"POST"[..]), "{name}: its own method");
        assert_eq!(find(&[(name, "DELETE")], "GET", apply), denied, "{name}: only POST is overridden");
    }
    for value in ["", "patch", "PATCH, DELETE", "PA TCH", "PATCH ", "HEAD", "CONNECT", "TRACE"] {
        assert_eq!(find(&[(NAME, value)], "POST", apply), denied, "{value:?}");
    }
    assert_eq!(find(&[(NAME, "PATCH"), ("x-http-method", "PATCH")], "POST", apply), Ok(&b"PATCH"[..]));
    assert_eq!(find(&[(NAME, "PATCH"), ("x-http-method", "DELETE")], "POST", apply), denied);
}

#[test]
fn joined_authorization_headers_are_ambiguous_whatever_their_schemes() {
    for value in [
        "Digest a=b, Bearer omf_x",
        "Digest a=b,Bearer omf_x=",
        "Digest a=\"b\" Bearer omf_x, c=d",
        "Digest a=\"b, Bearer omf_x",
        "Bearer omf_x, Digest a=b",
        "Bearer a=b, c=d",
        "Basic abc=, Basic def=",
        "Basic abc, Bearer omf_x",
        "Basic abc=,omf_x",
        "Digest a=b, Negotiate",
        "Digest a=b,",
        ", Digest a=b",
        "Digest, Bearer omf_x",
        "AWS4-HMAC-SHA256 Credential=a, Signature=b,AWS4-HMAC-SHA256 Credential=a, Signature=b",
    ] {
        assert_eq!(find(&[("authorization", value)]), Err(Denial::AmbiguousCredentials), "{value}");
    }
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
        "x-original-url",
        "X-Script-Name",
        "x_forwarded_path",
        "x-original-path",
        "x-ms-original-url",
        "x-waws-unencoded-url",
        "x+http+path+override",
    ] {
        assert_eq!(header_role(name.as_bytes()), HeaderRole::Forged, "{name}");
    }
    for name in ["x-omniflow", "x-omniflo-key", "", "accept"] {
        assert_eq!(header_role(name.as_bytes()), HeaderRole::Other, "{name}");
    }
}

#[test]
fn every_known_name_is_listed_by_its_length() {
    for length in 0..64 {
        for (name, role) in known_names(length) {
            assert_eq!(name.len(), length, "{}", name.escape_ascii());
            assert_eq!(header_role(name), *role, "{}", name.escape_ascii());
            let may_override = matches!(length, 13 | 17 | 22);
            assert!(may_override || *role != HeaderRole::MethodOverride, "{}", name.escape_ascii());
        }
    }
}
