#[cfg(target_family = "wasm")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use proptest::prelude::*;

use super::*;

fn admits(list: &[&str], address: &str) -> bool {
    let bytes = Allowlist::parse(list.iter().copied()).unwrap().to_bytes();
    AllowlistView::from_bytes(&bytes).unwrap().admits(parse_source_address(address.as_bytes()))
}

#[test]
fn networks_admit_only_their_addresses() {
    assert!(admits(&["203.0.113.0/24"], "203.0.113.255:9"));
    assert!(!admits(&["203.0.113.0/24"], "203.0.114.0:9"));
    assert!(admits(&["203.0.113.7"], "203.0.113.7"));
    assert!(!admits(&["203.0.113.7"], "203.0.113.8"));
    assert!(admits(&["2001:db8::/32"], "[2001:db8:ffff::1]:443"));
    assert!(!admits(&["2001:db8::/32"], "[2001:db9::1]:443"));
    assert!(admits(&["0.0.0.0/0"], "8.8.8.8:1"));
    assert!(!admits(&["0.0.0.0/0"], "[2001:db8::1]:1"), "all of IPv4 is not IPv6");
    assert!(admits(&["::/0"], "[2001:db8::1]:1"));
    assert!(!admits(&["::/0"], "8.8.8.8:1"), "all of IPv6 is not IPv4");
    assert!(!admits(&["::/64"], "[::ffff:8.8.8.8]:1"));
    assert!(admits(&["10.0.0.0/8"], "[::ffff:10.1.2.3]:1"), "IPv4-mapped is IPv4");
    assert!(admits(&["::ffff:10.0.0.0/104"], "10.1.2.3:1"));
}

#[test]
fn an_empty_list_admits_any_address_and_other_lists_reject_an_unknown_address() {
    assert!(admits(&[], "/run/envoy.sock"));
    assert!(!admits(&["0.0.0.0/0", "::/0"], "/run/envoy.sock"));
}

#[test]
fn invalid_networks_are_rejected_with_a_suggestion() {
    let error = Allowlist::parse(["10.0.0.1/8"]).unwrap_err();
    assert_eq!(error.to_string(), "10.0.0.1/8 has bits set outside its prefix: did you mean 10.0.0.0/8?");
    for bad in ["", "10.0.0", "10.0.0.0/33", "::/129", "localhost", "10.0.0.1-10.0.0.9", "fe80::1%eth0"] {
        assert!(matches!(Allowlist::parse([bad]), Err(InvalidAllowlist::Syntax(_))), "{bad}");
    }
    assert!(matches!(Allowlist::parse(["::ffff:0:0/95"]), Err(InvalidAllowlist::HostBits { .. })));
    let many: Vec<String> = (0..65).map(|n| alloc::format!("10.0.0.{n}")).collect();
    assert_eq!(Allowlist::parse(many.iter().map(String::as_str)), Err(InvalidAllowlist::TooMany));
}

#[test]
fn source_addresses_are_parsed_with_and_without_ports() {
    let parse = |text: &str| parse_source_address(text.as_bytes()).map(|a| a.to_string());
    assert_eq!(parse("9.9.9.9:0").as_deref(), Some("9.9.9.9"));
    assert_eq!(parse("[::1]:80").as_deref(), Some("::1"));
    assert_eq!(parse("::1").as_deref(), Some("::1"));
    assert_eq!(parse("[::ffff:1.2.3.4]:80").as_deref(), Some("1.2.3.4"));
    for bad in ["", ":", "[::1", "[::1]80", "1.2.3.4:x", "1.2.3:80", "\u{e9}"] {
        assert_eq!(parse(bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn ipv4_matching_agrees_with_ipnet(net: u32, bits in 0u8..=32, address: u32) {
        let network = ipnet::Ipv4Net::new(net.into(), bits).unwrap().trunc();
        let list = Allowlist::parse([network.to_string().as_str()]).unwrap();
        let bytes = list.to_bytes();
        let view = AllowlistView::from_bytes(&bytes).unwrap();
        let address: core::net::Ipv4Addr = address.into();
        prop_assert_eq!(view.admits(Some(address.into())), network.contains(&address));
        prop_assert!(view.admits(Some(network.addr().into())));
        prop_assert_eq!(view.to_owned(), list);
    }

    #[test]
    fn ipv6_matching_agrees_with_ipnet(net: u128, bits in 0u8..=128, flip in 0u32..128) {
        let network = ipnet::Ipv6Net::new(net.into(), bits).unwrap().trunc();
        prop_assume!(network.addr().to_ipv4_mapped().is_none());
        let bytes = Allowlist::parse([network.to_string().as_str()]).unwrap().to_bytes();
        let address = Ipv6Addr::from(u128::from(network.addr()) ^ (1 << flip));
        let view = AllowlistView::from_bytes(&bytes).unwrap();
        prop_assert_eq!(view.admits(Some(address.into())), network.contains(&address));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, text: String) {
        let _ = AllowlistView::from_bytes(&bytes).map(|view| view.admits(None));
        let _ = parse_source_address(&bytes);
        let _ = Allowlist::parse([text.as_str()]);
    }
}

#[test]
fn forwarded_addresses_that_envoy_cannot_parse_are_detected() {
    let detected = |hops, forwarded: &str| is_forwarded_unparsed(forwarded.as_bytes(), hops);
    for (hops, forwarded) in [
        (1, "203.0.113.7:51234, 10.0.0.5"),
        (1, "[2001:db8::7]:51234, 10.0.0.5"),
        (1, "[2001:db8::7],10.0.0.5"),
        (1, "198.51.100.1, 203.0.113.7:51234, 10.0.0.5"),
        (2, "203.0.113.7:51234, 192.0.2.1, 10.0.0.5"),
    ] {
        assert!(detected(hops, forwarded), "{hops} {forwarded}");
    }
    for (hops, forwarded) in [
        // Without trusted proxies, the client has written the header.
        (0, "203.0.113.7:51234, 10.0.0.5"),
        (1, ""),
        (1, "10.0.0.5"),
        (1, "203.0.113.7, 10.0.0.5"),
        (1, "2001:db8::7, 10.0.0.5"),
        (1, "unknown, 10.0.0.5"),
        (1, "_hidden:80, 10.0.0.5"),
        // The peer's own entry.
        (1, "10.0.0.5:443"),
        // The entries before that of the trusted proxy are controlled by the client.
        (1, "203.0.113.7:51234, 192.0.2.1, 10.0.0.5"),
        (2, "203.0.113.7, 192.0.2.1:80, 10.0.0.5"),
        (usize::MAX, "203.0.113.7:51234, 10.0.0.5"),
    ] {
        assert!(!detected(hops, forwarded), "{hops} {forwarded}");
    }
}
