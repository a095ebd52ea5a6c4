#[cfg(target_family = "wasm")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;
use crate::credential::find_credential;
use crate::policy::{MAX_IMPORTED_KEY_LENGTH, PolicyDocument};

fn imported() -> CredentialView<'static> {
    CredentialView {
        key_id: Uuid::from_u128(1),
        version: 1,
        name: "imported",
        environment: Environment::Live,
        revoked: false,
        not_after: None,
        scopes: "contacts:read",
        rate_limit: RateLimit::default(),
        allowlist: AllowlistView::from_bytes(&[]).unwrap(),
    }
}

/// The reason for a request with this header, and the number of lookups in the snapshot. Every lookup
/// succeeds if `found`.
fn decide(imported_keys: bool, passthrough: bool, header: (&str, &str), found: bool) -> (&'static str, u32) {
    let policy = Policy::compile(PolicyDocument { imported_keys, ..PolicyDocument::default() }).unwrap();
    let non_key_credentials =
        if passthrough { NonKeyCredentials::Passthrough } else { NonKeyCredentials::Refuse };
    let settings = GatewaySettings { non_key_credentials, ..GatewaySettings::default() };
    let (name, value) = header;
    let call = Call {
        credential: find_credential(
            [(name.as_bytes(), value.as_bytes())],
            policy.key_prefix(),
            CredentialHeader::Any,
        ),
        request: Request {
            method: b"GET",
            is_method_overridden: false,
            target: b"/api/v1/contacts",
            source: None,
            now: UnixMillis(0),
        },
    };
    let mut lookups = 0;
    let decision = authorize(&policy, &settings, &call, |digest| {
        lookups += 1;
        let text = value.strip_prefix("Bearer ").unwrap_or(value);
        assert_eq!(*digest, Digest::of(text.as_bytes()));
        found.then(imported)
    });
    assert_eq!(decision.credential.is_some(), lookups == 1 && found);
    (decision.outcome.reason(), lookups)
}

#[test]
fn imported_keys_are_looked_up_only_if_the_policy_has_them() {
    let longest = "k".repeat(MAX_IMPORTED_KEY_LENGTH);
    for secret in ["sk_live_4eC39HqLyjWDarjtT1zdp7dc", "a", "omf", longest.as_str()] {
        let bearer = format!("Bearer {secret}");
        for header in [("x-api-key", secret), ("authorization", bearer.as_str())] {
            let denied = if header.0 == "x-api-key" { "malformed_key" } else { "non_key_credential" };
            assert_eq!(decide(true, false, header, true), ("allowed", 1), "{header:?}");
            assert_eq!(decide(true, true, header, true), ("allowed", 1), "{header:?}");
            assert_eq!(decide(true, false, header, false), ("malformed_key", 1), "{header:?}");
            assert_eq!(decide(true, true, header, false), (denied, 1), "{header:?}");
            assert_eq!(decide(false, false, header, true), ("malformed_key", 0), "{header:?}");
            assert_eq!(decide(false, true, header, true), (denied, 0), "{header:?}");
        }
    }
}

#[test]
fn credentials_that_cannot_be_keys_are_not_looked_up() {
    let longer = "k".repeat(MAX_IMPORTED_KEY_LENGTH + 1);
    let bearer = format!("Bearer {longer}");
    for (header, denied, passed_through) in [
        (("x-api-key", longer.as_str()), "malformed_key", "malformed_key"),
        (("authorization", bearer.as_str()), "malformed_key", "non_key_credential"),
        (("x-api-key", ""), "malformed_key", "malformed_key"),
        (("x-api-key", "omf_live_4eC39HqLyjWDarjtT1zdp7dc"), "malformed_key", "malformed_key"),
        (("authorization", "Bearer omf_token_x"), "malformed_key", "malformed_key"),
        (("authorization", "Bearer a b"), "malformed_key", "malformed_key"),
        (("authorization", "Bearer "), "malformed_key", "malformed_key"),
        (("authorization", "Basic c2tfbGl2ZQ=="), "missing_credentials", "non_key_credential"),
        (("authorization", "sk_live_x"), "missing_credentials", "non_key_credential"),
        (("x-api-key", "a,b"), "ambiguous_credentials", "ambiguous_credentials"),
    ] {
        assert_eq!(decide(true, false, header, true), (denied, 0), "{header:?}");
        assert_eq!(decide(true, true, header, true), (passed_through, 0), "{header:?}");
    }
}
