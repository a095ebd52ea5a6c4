//! The identity of a client, for the upstream, for the guard after this filter, and for access logs.

use omniflow_policy::credential::CredentialHeader;
use uuid::Uuid;

use super::decide::Decision;
use super::headers::RequestHeaders;
use crate::config::Config;
use crate::host;

/// Removes the headers that the client must not send to the upstream, sets the identity headers and opens the guard.
/// For requests that continue to the upstream.
pub(super) fn set_identity_headers(request: &RequestHeaders<'_>, decision: &Decision, config: &Config) {
    let strips_credential = config.strip_credential && decision.key.is_some();
    let only_api_key =
        config.settings.credential_header == CredentialHeader::XApiKey && request.has_api_key();
    for name in request.names_to_remove(strips_credential, only_api_key) {
        host::remove_request_header(name);
    }
    if let Some(key) = &decision.key {
        // Added instead of replaced, which is cheaper: headers of these names were removed above.
        let mut id = Uuid::encode_buffer();
        let id = key.id.hyphenated().encode_lower(&mut id);
        host::add_request_header("x-omniflow-key-id", id.as_bytes());
        host::add_request_header("x-omniflow-key-name", key.name.as_bytes());
        host::add_request_header("x-omniflow-environment", key.environment.as_str().as_bytes());
        host::add_request_header("x-omniflow-scopes", decision.scopes.as_bytes());
    }
    // Without this the guard refuses the request.
    host::set_filter_state("omf_ok", b"1");
}

/// Sets filter state for access logs.
pub(super) fn set_access_log_state(decision: &Decision) {
    host::set_filter_state("omniflow.decision", decision.outcome.decision().as_bytes());
    host::set_filter_state("omniflow.reason", decision.outcome.reason().as_bytes());
    if let Some(endpoint) = &decision.endpoint {
        host::set_filter_state("omniflow.endpoint", endpoint.as_bytes());
    }
    if let Some(key) = &decision.key {
        host::set_filter_state("omniflow.key_id", key.id.to_string().as_bytes());
        host::set_filter_state("omniflow.key_name", key.name.as_bytes());
        host::set_filter_state("omniflow.environment", key.environment.as_str().as_bytes());
        host::set_filter_state("omniflow.scopes", decision.scopes.as_bytes());
    }
}
