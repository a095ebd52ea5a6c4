//! The proxies of the environment, and which requests use one.
//!
//! `HTTPS_PROXY`, `HTTP_PROXY` and `ALL_PROXY`, in upper or lower case, set the proxy. `NO_PROXY` lists the hosts that are
//! called directly: names with their subdomains, addresses, networks such as `10.0.0.0/8`, or `*`. This machine is always
//! called directly, because no proxy can reach its loopback addresses.

use std::net::IpAddr;
use std::sync::LazyLock;

use ipnet::IpNet;
use reqwest::Url;

static ENVIRONMENT: LazyLock<Proxies> =
    LazyLock::new(|| Proxies::new(|name| std::env::var(name).ok().filter(|value| !value.is_empty())));

/// The proxies of a process.
#[derive(Clone, Debug)]
pub(crate) struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    direct: Vec<Direct>,
}

/// Hosts that are called without a proxy.
#[derive(Clone, Debug)]
enum Direct {
    /// All hosts.
    All,
    /// The addresses of a network.
    Network(IpNet),
    /// A name and its subdomains, in lower case.
    Name(String),
}

/// The proxy through which a URL is called, without credentials; `None` if it is called directly.
pub fn proxy_of(url: &Url) -> Option<String> {
    let proxy = ENVIRONMENT.of(url)?;
    let port = proxy.port().map_or(String::new(), |port| format!(":{port}"));
    Some(format!("{}://{}{port}", proxy.scheme(), proxy.host_str().unwrap_or_default()))
}

// === impl Proxies ===

impl Proxies {
    /// The proxies of this process.
    pub(crate) fn of_environment() -> &'static Self {
        &ENVIRONMENT
    }

    /// The proxies that these variables set. Values that are not URLs are ignored, as in other programs.
    fn new(variable: impl Fn(&str) -> Option<String>) -> Self {
        let either = |name: &str| variable(name).or_else(|| variable(&name.to_ascii_lowercase()));
        let proxy = |name| {
            let text = either(name).or_else(|| either("ALL_PROXY"))?;
            let has_scheme = text.contains("://");
            Url::parse(&if has_scheme { text } else { format!("http://{text}") }).ok()
        };
        let direct = either("NO_PROXY").unwrap_or_default();
        let direct = direct.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(Direct::new);
        Self { http: proxy("HTTP_PROXY"), https: proxy("HTTPS_PROXY"), direct: direct.collect() }
    }

    /// The proxy for a URL.
    pub(crate) fn of(&self, url: &Url) -> Option<&Url> {
        let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
        let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        let is_loopback = match address {
            Some(address) => address.is_loopback() || address.is_unspecified(),
            None => is_within(host, "localhost"),
        };
        if is_loopback || self.direct.iter().any(|direct| direct.contains(host, address)) {
            return None;
        }
        if url.scheme() == "https" { self.https.as_ref() } else { self.http.as_ref() }
    }
}

// === impl Direct ===

impl Direct {
    fn new(entry: &str) -> Self {
        if entry == "*" {
            return Self::All;
        }
        let bare = entry.trim_start_matches('[').trim_end_matches(']');
        match (bare.parse::<IpNet>(), bare.parse::<IpAddr>()) {
            (Ok(network), _) => Self::Network(network),
            (_, Ok(address)) => Self::Network(address.into()),
            _ => Self::Name(entry.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase()),
        }
    }

    fn contains(&self, host: &str, address: Option<IpAddr>) -> bool {
        match self {
            Self::All => true,
            Self::Network(network) => address.is_some_and(|address| network.contains(&address)),
            Self::Name(name) => is_within(host, name),
        }
    }
}

/// Whether a host, which the URL parser has put in lower case, is a name or one of its subdomains.
fn is_within(host: &str, name: &str) -> bool {
    host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(variables: &[(&str, &str)], url: &str) -> Option<String> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Proxies::new(variable).of(&Url::parse(url).unwrap()).map(ToString::to_string)
    }

    #[test]
    fn own_machine_and_exceptions_are_reached_directly() {
        let variables = [
            ("HTTP_PROXY", "http://proxy.example:3128"),
            ("https_proxy", "proxy.example:3129"),
            ("NO_PROXY", "10.0.0.0/8, fd00::/8,192.0.2.7,.corp.example,*.lan,Receiver"),
        ];
        for direct in [
            "http://localhost:4318/",
            "http://api.localhost/",
            "http://127.0.0.1:8080/",
            "http://127.9.9.9/",
            "https://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://10.1.2.3/",
            "https://[fd00::7]/",
            "http://192.0.2.7/",
            "https://corp.example/",
            "https://a.b.corp.example/",
            "https://printer.lan/",
            "http://receiver/",
        ] {
            assert_eq!(proxy(&variables, direct), None, "{direct}");
        }
        for (url, expected) in [
            ("http://11.1.2.3/", "http://proxy.example:3128/"),
            ("http://192.0.2.8/", "http://proxy.example:3128/"),
            ("https://notcorp.example/", "http://proxy.example:3129/"),
            ("https://mylocalhost/", "http://proxy.example:3129/"),
        ] {
            assert_eq!(proxy(&variables, url).as_deref(), Some(expected), "{url}");
        }
    }

    #[test]
    fn proxy_for_everything_and_exception_for_everything() {
        let all = ("ALL_PROXY", "socks.example:1080");
        assert_eq!(proxy(&[all], "https://a.example/").as_deref(), Some("http://socks.example:1080/"));
        assert_eq!(proxy(&[all, ("no_proxy", "*")], "https://a.example/"), None);
        assert_eq!(proxy(&[], "https://a.example/"), None);
    }
}
