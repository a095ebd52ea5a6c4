//! The headers of a request.

use omniflow_policy::credential::{HeaderRole, header_role, is_api_key};

use crate::host::header_map::HeaderMap;

/// A request's headers, with the first value of each header that is needed by name.
pub(super) struct RequestHeaders<'a> {
    all: &'a HeaderMap,
    method: Option<&'a [u8]>,
    target: Option<&'a [u8]>,
    media_type: Option<&'a [u8]>,
    id: Option<&'a [u8]>,
    forwarded_for: Option<&'a [u8]>,
    has_original_url: bool,
}

impl<'a> RequestHeaders<'a> {
    pub(super) fn new(all: &'a HeaderMap) -> Self {
        let mut request = Self {
            all,
            method: None,
            target: None,
            media_type: None,
            id: None,
            forwarded_for: None,
            has_original_url: false,
        };
        for (name, value) in all.iter() {
            let field = match name {
                b":method" => &mut request.method,
                b":path" => &mut request.target,
                b"content-type" => &mut request.media_type,
                b"x-request-id" => &mut request.id,
                b"x-forwarded-for" => &mut request.forwarded_for,
                b"x-envoy-original-url" => {
                    request.has_original_url = true;
                    continue;
                }
                _ => continue,
            };
            field.get_or_insert(value);
        }
        request
    }

    /// All headers in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone + use<'a> {
        self.all.iter()
    }

    pub(super) fn method(&self) -> &'a [u8] {
        self.method.unwrap_or_default()
    }

    /// The path with its query string.
    pub(super) fn target(&self) -> &'a [u8] {
        self.target.unwrap_or_default()
    }

    pub(super) fn media_type(&self) -> &'a [u8] {
        self.media_type.unwrap_or_default()
    }

    pub(super) fn id(&self) -> &'a [u8] {
        self.id.unwrap_or_default()
    }

    /// `X-Forwarded-For`, with the address of the direct peer, which Envoy adds.
    pub(super) fn forwarded_for(&self) -> &'a [u8] {
        self.forwarded_for.unwrap_or_default()
    }

    /// Whether the request has the header that Envoy adds to a request that it redirects.
    pub(super) fn has_original_url(&self) -> bool {
        self.has_original_url
    }

    /// Replaces the method with the value of a header.
    pub(super) fn override_method(&mut self, method: &'a [u8]) {
        self.method = Some(method);
    }

    /// All values of a name, joined by commas.
    pub(super) fn values(&self, name: &str) -> Vec<u8> {
        let named = self.iter().filter(|(known, _)| *known == name.as_bytes());
        named.map(|(_, value)| value).collect::<Vec<_>>().join(&b',')
    }

    pub(super) fn is_grpc(&self) -> bool {
        self.media_type()
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+") || rest.starts_with(b";"))
    }

    /// The names of headers that must not reach the upstream. `credential`: whether the credential is one.
    /// `only_api_key`: whether the credential is in X-API-Key, regardless of Authorization.
    pub(super) fn names_to_remove(
        &self,
        credential: bool,
        only_api_key: bool,
    ) -> impl Iterator<Item = &'a [u8]> {
        self.iter().map(|(name, _)| name).filter(move |name| match header_role(name) {
            HeaderRole::Forged | HeaderRole::MethodOverride => true,
            HeaderRole::Credential => credential && (!only_api_key || is_api_key(name)),
            HeaderRole::Other => false,
        })
    }

    /// Whether the request has X-API-Key.
    pub(super) fn has_api_key(&self) -> bool {
        self.iter().any(|(name, _)| is_api_key(name))
    }
}
