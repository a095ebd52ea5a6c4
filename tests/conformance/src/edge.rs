//! The attacked edge, and the paths that its key may call.

use std::net::SocketAddr;

use omniflow_harness::Upstream;

use crate::readings::readings;

/// An edge with a key. Its upstream responds with the request that it received, like that of the demo.
#[derive(Debug)]
pub struct Edge<'u> {
    /// Its address, without TLS.
    pub address: SocketAddr,
    /// A key that may only GET `allowed` and the paths below it.
    pub key: String,
    /// A path with a route for which the key has the scope, such as `/api/v1/contacts`.
    pub allowed: String,
    /// Paths, as the upstream reads them, with routes for which the key lacks the scope. Some may be below `allowed`.
    pub forbidden: Vec<String>,
    /// The upstreams themselves, if available: they also report requests without a response.
    pub upstreams: Vec<&'u Upstream>,
}

impl Edge<'_> {
    /// An interpretation of the path that the key may not call, if there is one.
    pub fn forbidden_reading(&self, path: &[u8]) -> Option<Vec<u8>> {
        readings(path).into_iter().find(|reading| {
            let forbidden = self.forbidden.iter().any(|place| is_below(reading, place));
            forbidden || !is_below(reading, &self.allowed)
        })
    }
}

/// Whether a path is this one or below it.
fn is_below(path: &[u8], place: &str) -> bool {
    path.strip_prefix(place.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_judged_by_all_its_readings() {
        let edge = Edge {
            address: ([127, 0, 0, 1], 1).into(),
            key: String::new(),
            allowed: "/v1/contacts".to_owned(),
            forbidden: vec!["/v1/contacts/admin".to_owned(), "/v1/contacts/a:b".to_owned()],
            upstreams: Vec::new(),
        };
        for good in
            ["/v1/contacts", "/v1/contacts/7?x=/../admin", "/v1/contacts/a%20b", "/v1/contacts/administrator"]
        {
            assert_eq!(edge.forbidden_reading(good.as_bytes()), None, "{good}");
        }
        for bad in [
            "/v1/contacts/admin",
            "/v1/contacts/%61dmin",
            "/v1/contacts/x/../admin",
            "/v1/contacts/%252e%252e/x",
            "/v1/contacts//admin",
            "/v1/contacts\\admin",
            "/v1/contacts/admin;x",
            "/v1/contacts/admin%00",
            "/v1/contacts/a%3Ab",
            "/v1/contactsx",
            "/v1",
            "*",
            "",
            "/v1/contacts/..;/tickets",
            "/v1/contacts/admin%23",
        ] {
            assert!(edge.forbidden_reading(bad.as_bytes()).is_some(), "{bad}");
        }
    }
}
