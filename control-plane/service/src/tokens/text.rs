//! Parses requests for tokens that arrive as text, and reports every error at once. `api` and `console` share it.

use omniflow_domain::error::Error;
use omniflow_domain::gateway_pattern::GatewayPattern;
use omniflow_domain::name::Name;
use omniflow_domain::token::Role;
use omniflow_policy::time::UnixMillis;

use crate::fields;

/// A request for a token, as text.
#[derive(Clone, Debug, Default)]
pub struct TokenText {
    /// Its name.
    pub name: String,
    /// `owner`, `admin`, `auditor` or `gateway`.
    pub role: String,
    /// The gateways that it is valid for; any if empty. Only for the role `gateway`.
    pub gateways: Vec<String>,
    /// When it expires, RFC 3339; `None` for never.
    pub expires_at: Option<String>,
}

/// A request for a token.
#[derive(Clone, Debug)]
pub struct CreateToken {
    /// Its unique name.
    pub name: Name,
    /// Its role.
    pub role: Role,
    /// The gateways that it is valid for; any if empty. Only for the gateway role.
    pub gateways: Vec<GatewayPattern>,
    /// When the token expires; `None` for never.
    pub expires_at: Option<UnixMillis>,
}

// === impl TokenText ===

impl TokenText {
    /// The request, or all its errors. An expiry before `now` is an error.
    pub(super) fn parse(&self, now: UnixMillis) -> Result<CreateToken, Vec<Error>> {
        let expires_at = self.expires_at.as_deref().map(fields::expires_at).transpose();
        let expires_at = expires_at.and_then(|end| fields::check_future(end, now).map(|()| end));
        let (name, role) = (fields::name(&self.name), fields::role(&self.role));
        let gateways = match &role {
            Ok(role) if *role != Role::Gateway && !self.gateways.is_empty() => {
                Err(Error::invalid_field("/gateways", "only a token with the gateway role has gateways"))
            }
            _ => fields::gateways(&self.gateways),
        };
        match (name, role, gateways, expires_at) {
            (Ok(name), Ok(role), Ok(gateways), Ok(expires_at)) => {
                Ok(CreateToken { name, role, gateways, expires_at })
            }
            (name, role, gateways, expires_at) => {
                let errors = [name.err(), role.err(), gateways.err(), expires_at.err()];
                Err(errors.into_iter().flatten().collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_invalid_field_is_reported_once() {
        let text = |name: &str, role: &str, end: &str| TokenText {
            name: name.to_owned(),
            role: role.to_owned(),
            gateways: vec!["edge *".to_owned()],
            expires_at: Some(end.to_owned()),
        };
        let now = UnixMillis(1_800_000_000_000);
        let fields = |text: TokenText| {
            let errors = text.parse(now).err().unwrap_or_default();
            errors.iter().map(|error| error.field().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            fields(text("a/b", "king", "2020-01-01T00:00:00Z")),
            ["/name", "/role", "/gateways/0", "/expires_at"]
        );
        assert_eq!(fields(text("ci", "gateway", "tomorrow")), ["/gateways/0", "/expires_at"]);
        let of = |role: &str, gateways: &[&str]| TokenText {
            gateways: gateways.iter().map(|&gateway| gateway.to_owned()).collect(),
            ..text("ci", role, "2099-01-01T00:00:00Z")
        };
        assert_eq!(fields(of("admin", &["edge-*"])), ["/gateways"]);
        assert_eq!(fields(of("gateway", &["edge"; 101])), ["/gateways"]);
        assert!(fields(of("admin", &[])).is_empty());
        assert!(fields(of("gateway", &["edge-1", "eu-*"])).is_empty());
    }
}
