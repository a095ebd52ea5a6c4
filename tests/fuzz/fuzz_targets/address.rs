//! Allowlists and Envoy's address format, compared with independent parsers.
#![no_main]

use std::net::{IpAddr, SocketAddr};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use omniflow_policy::address::{Allowlist, AllowlistView, parse_source_address};

#[derive(Arbitrary, Debug)]
struct Case {
    networks: Vec<(IpAddr, u8)>,
    text: String,
    client: IpAddr,
    port: u16,
    bytes: Vec<u8>,
}

fuzz_target!(|case: Case| {
    let Case { networks, text, client, port, bytes } = case;
    let written = SocketAddr::new(client, port).to_string();
    assert_eq!(parse_source_address(written.as_bytes()), Some(client.to_canonical()));
    assert_eq!(parse_source_address(client.to_string().as_bytes()), Some(client.to_canonical()));
    if let Some(address) = parse_source_address(&bytes) {
        assert_eq!(address, address.to_canonical());
    }
    if let Some(view) = AllowlistView::from_bytes(&bytes) {
        let _ = (view.admits(Some(client)), view.admits(None), view.to_owned().to_string());
    }
    let _ = Allowlist::parse([text.as_str()]).map(|list| checked(&list));

    let texts: Vec<String> = networks.iter().map(|(address, bits)| format!("{address}/{bits}")).collect();
    let Ok(list) = Allowlist::parse(texts.iter().map(String::as_str)) else { return };
    let bytes = checked(&list);
    let view = AllowlistView::from_bytes(&bytes).expect("what was written is read");
    let admitted =
        networks.is_empty() || networks.iter().any(|(network, bits)| holds(*network, *bits, client));
    assert_eq!(view.admits(Some(client)), admitted, "{texts:?} {client}");
    assert_eq!(view.admits(None), networks.is_empty());
});

/// The binary form and the JSON of a list are the list.
fn checked(list: &Allowlist) -> Vec<u8> {
    let bytes = list.to_bytes();
    assert_eq!(AllowlistView::from_bytes(&bytes).map(|view| view.to_owned()).as_ref(), Some(list));
    let json = serde_json::to_string(list).expect("JSON");
    assert_eq!(serde_json::from_str::<Allowlist>(&json).ok().as_ref(), Some(list));
    bytes
}

/// Bit by bit. IPv4 is its own family, also where it is written as IPv6.
fn holds(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    let (network, bits) = match (network, network.to_canonical()) {
        (IpAddr::V6(_), IpAddr::V4(v4)) => (IpAddr::V4(v4), bits.saturating_sub(96)),
        (network, _) => (network, bits),
    };
    let octets = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let (network, address) = (octets(network), octets(address.to_canonical()));
    network.len() == address.len()
        && (0..usize::from(bits)).all(|bit| {
            let mask = 0x80 >> (bit % 8);
            network[bit / 8] & mask == address[bit / 8] & mask
        })
}
