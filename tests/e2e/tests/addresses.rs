//! IP allowlists, with the client's address as determined by Envoy.

use std::net::Ipv6Addr;

use omniflow_harness::{Call, Stack, StackOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{contacts, refusal};

async fn key(stack: &Stack, name: &str, networks: &[&str]) -> String {
    let fields = json!({
        "name": name, "environment": "live", "scopes": ["contacts:read"], "ip_allowlist": networks,
        "rate_limit": {"per_minute": 100_000},
    });
    stack.key(fields).await.unwrap().secret
}

fn forwarded(secret: &str, value: &str) -> Call {
    contacts(secret).header("x-forwarded-for", value)
}

const REFUSED: (u16, Option<&str>) = (403, Some("ip_not_allowed"));

#[tokio::test]
async fn a_direct_client_is_judged_by_its_connection() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let local = key(&stack, "local", &["127.0.0.0/8"]).await;
    let elsewhere = key(&stack, "elsewhere", &["203.0.113.0/24", "2001:db8::/32"]).await;
    assert_eq!(stack.call(contacts(&local)).await.unwrap().status, 200);
    // Addresses that the client itself states are ignored.
    for forged in ["203.0.113.7", "203.0.113.7, 203.0.113.7", "2001:db8::1"] {
        for name in
            ["x-forwarded-for", "x-real-ip", "forwarded", "x-envoy-external-address", "true-client-ip"]
        {
            let response = stack.call(contacts(&elsewhere).header(name, forged)).await.unwrap();
            let (status, code) = refusal(&response);
            assert_eq!((status, code.as_deref()), REFUSED, "{name}: {forged}");
        }
    }
    assert!(stack.live.received().len() == 1);
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_last_address_counts() {
    let stack = Stack::start(StackOptions { trusted_hops: 1, ..StackOptions::workers(2) }).await.unwrap();
    let v4 = key(&stack, "v4", &["203.0.113.0/24"]).await;
    let v6 = key(&stack, "v6", &["2001:db8::/32"]).await;
    let mapped = key(&stack, "mapped", &["::ffff:203.0.113.0/120"]).await;
    for (secret, value, passes) in [
        (&v4, "203.0.113.7", true),
        (&v4, "203.0.114.7", false),
        (&v4, "::ffff:203.0.113.7", true),
        (&v4, "198.51.100.1, 203.0.113.7", true),
        // The client controls the left part of the list.
        (&v4, "203.0.113.7, 198.51.100.1", false),
        (&v6, "2001:db8::7", true),
        (&v6, "2001:db9::7", false),
        (&v6, "203.0.113.7", false),
        (&mapped, "203.0.113.7", true),
        (&mapped, "::ffff:203.0.113.7", true),
        (&mapped, "2001:db8::7", false),
    ] {
        let response = stack.call(forwarded(secret, value)).await.unwrap();
        let (status, code) = refusal(&response);
        let expected = if passes { (200, None) } else { REFUSED };
        assert_eq!((status, code.as_deref()), expected, "{value}");
    }
}

/// Some load balancers write ports or brackets, which Envoy cannot parse: it takes the address of the load balancer then.
#[tokio::test]
async fn a_forwarded_address_with_a_port_or_brackets_is_counted_and_reported() {
    const COUNTER: &str = "wasmcustom.omniflow_forwarded_addresses_unparsed";
    let stack = Stack::start(StackOptions { trusted_hops: 1, ..StackOptions::workers(2) }).await.unwrap();
    let client = key(&stack, "client", &["203.0.113.0/24", "2001:db8::/32"]).await;
    for plain in ["203.0.113.7", "2001:db8::7", "198.51.100.1:80, 203.0.113.7"] {
        assert_eq!(stack.call(forwarded(&client, plain)).await.unwrap().status, 200, "{plain}");
    }
    assert_eq!(stack.envoy.stat(COUNTER).await.unwrap(), 0);
    let unparsable = ["203.0.113.7:51234", "[2001:db8::7]:51234", "[2001:db8::7]"];
    for (n, value) in (1..).zip(unparsable) {
        let response = stack.call(forwarded(&client, value)).await.unwrap();
        let (status, code) = refusal(&response);
        assert_eq!((status, code.as_deref()), REFUSED, "{value}: the address is that of the proxy");
        assert_eq!(stack.envoy.stat(COUNTER).await.unwrap(), n, "{value}");
    }
    let log = stack.envoy.process().log();
    let warnings = log.matches("X-Forwarded-For contains an address with a port or in brackets").count();
    assert!((1..=2).contains(&warnings), "{warnings} warnings for two workers: {log}");
}

/// Without proxies in front, clients alone write the header, and nothing is to be configured.
#[tokio::test]
async fn a_client_cannot_cause_the_warning_about_proxies() {
    let stack = Stack::start(StackOptions::workers(1)).await.unwrap();
    let client = key(&stack, "client", &[]).await;
    for value in ["203.0.113.7:51234", "[2001:db8::7]", "203.0.113.7:51234, 127.0.0.1"] {
        assert_eq!(stack.call(forwarded(&client, value)).await.unwrap().status, 200, "{value}");
    }
    let counted = stack.envoy.stat("wasmcustom.omniflow_forwarded_addresses_unparsed").await.unwrap();
    assert_eq!((counted, stack.envoy.process().log().matches("X-Forwarded-For contains").count()), (0, 0));
}

/// A listener on both families: IPv4 clients arrive as IPv4-mapped addresses there.
#[tokio::test]
async fn a_listener_on_both_families() {
    let options = StackOptions::default().edit(|config| {
        let address = config.pointer_mut("/static_resources/listeners/0/address/socket_address").unwrap();
        address["address"] = json!("::");
        address["ipv4_compat"] = Value::Bool(true);
        Ok(())
    });
    let stack = Stack::start(options).await.unwrap();
    let v4 = key(&stack, "v4", &["127.0.0.1"]).await;
    let v6 = key(&stack, "v6", &["::1"]).await;
    assert_eq!(stack.call(contacts(&v4)).await.unwrap().status, 200);
    assert_eq!(refusal(&stack.call(contacts(&v6)).await.unwrap()).0, 403);
    assert_eq!(over_ipv6(&stack, &v6).await, 200);
    assert_eq!(over_ipv6(&stack, &v4).await, 403);
}

async fn over_ipv6(stack: &Stack, secret: &str) -> u16 {
    let mut stream = TcpStream::connect((Ipv6Addr::LOCALHOST, stack.envoy.port())).await.unwrap();
    let request = format!(
        "GET /api/v1/contacts HTTP/1.1\r\nhost: a\r\nx-api-key: {secret}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}
