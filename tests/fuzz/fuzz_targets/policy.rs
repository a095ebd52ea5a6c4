//! Policy documents: any bytes are parsed or rejected, and a parsed document is equivalent after serialization.
#![no_main]

use libfuzzer_sys::fuzz_target;
use omniflow_fuzz::server::{Principal, server};
use omniflow_policy::path::Target;
use omniflow_policy::policy::{Policy, PolicyDocument};
use omniflow_policy::policy_diff::PolicyDiff;

fuzz_target!(|bytes: &[u8]| {
    // A draft is sent through the API, in both formats, regardless of the filter's result.
    if bytes.len() < 4_096 {
        for media_type in ["application/json", "application/toml"] {
            let (status, body) =
                server().call(Principal::Owner, "POST", "/v1/policy/diff", media_type, bytes.to_vec());
            assert!(status < 500, "{status}: {}", String::from_utf8_lossy(&body));
        }
    }
    let Ok(document) = PolicyDocument::from_json(bytes) else { return };
    let again = PolicyDocument::from_json(document.to_json().as_bytes());
    assert_eq!(again.as_ref(), Ok(&document));
    assert!(PolicyDiff::between(&document, &document).is_empty());
    let Ok(policy) = Policy::compile(document.clone()) else { return };
    for route in &document.routes {
        // The template with its parameters filled in is a path that the policy matches.
        let path = route.path.replace(['{', '}', '*'], "");
        if let Ok(target) = Target::parse(path.as_bytes()) {
            let _ = policy.route(b"GET", &target);
        }
    }
});
