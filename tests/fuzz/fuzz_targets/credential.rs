//! For any headers of a request: one credential or none, and never one that others could interpret as two.
#![no_main]

use libfuzzer_sys::fuzz_target;
use omniflow_policy::credential::{CredentialHeader, HeaderRole, SentCredential, find_credential, header_role};
use omniflow_policy::denial::Denial;
use omniflow_policy::key::KeyPrefix;

fuzz_target!(|headers: Vec<(Vec<u8>, Vec<u8>)>| {
    let found = find_credential(
        headers.iter().map(|(name, value)| (name.as_slice(), value.as_slice())),
        &KeyPrefix::default(),
        CredentialHeader::Any,
    );
    let credentials: Vec<&(Vec<u8>, Vec<u8>)> =
        headers.iter().filter(|(name, _)| is_credential(name)).collect();
    for (name, _) in &headers {
        let role = header_role(name);
        assert_eq!(role == HeaderRole::Credential, is_credential(name));
        if normalize_name(name).starts_with("x-omniflow-") {
            assert_eq!(role, HeaderRole::Forged);
        }
    }
    match (credentials.as_slice(), found) {
        ([], found) => assert_eq!(found, Err(Denial::MissingCredentials)),
        ([(name, value)], Ok(SentCredential::Key(text))) => {
            assert!(!value.contains(&b','));
            if normalize_name(name) == "x-api-key" {
                assert_eq!(text, value);
            } else {
                assert!(value.len() == text.len() + 7 && value[..7].eq_ignore_ascii_case(b"bearer "));
                assert!(text.starts_with(b"omf_") && text.iter().all(u8::is_ascii_graphic));
            }
        }
        ([(name, value)], Ok(SentCredential::NonKey { token, .. })) => {
            assert!(normalize_name(name) == "authorization" && !value.contains(&b','));
            assert!(token.is_none_or(|token| !token.is_empty() && !token.starts_with(b"omf_")));
        }
        ([(_, value)], Err(denial)) => {
            assert_eq!(denial == Denial::AmbiguousCredentials, value.contains(&b','));
        }
        (_, found) => assert_eq!(found, Err(Denial::AmbiguousCredentials)),
    }
});

fn is_credential(name: &[u8]) -> bool {
    matches!(normalize_name(name).as_str(), "authorization" | "x-api-key")
}

/// A name as read by servers that fold case and treat everything except letters and digits as a dash.
fn normalize_name(name: &[u8]) -> String {
    name.iter()
        .map(|byte| char::from(*byte).to_ascii_lowercase())
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect()
}
