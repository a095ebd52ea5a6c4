//! The grammar of keys, compared with one written strictly from its documentation.
#![no_main]

use libfuzzer_sys::fuzz_target;
use omniflow_policy::key::{Environment, KeyPrefix, compose_key, compose_token};
use omniflow_policy::scan::{find_keys, find_tokens};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

fuzz_target!(|input: &[u8]| {
    let prefix = KeyPrefix::default();
    assert_eq!(prefix.check(input).ok(), reference(input));
    if let Ok(text) = core::str::from_utf8(input) {
        let anomalies = find_keys(&prefix, text).filter(|anomaly| anomaly.environment.is_ok());
        for anomaly in anomalies {
            assert_eq!(reference(anomaly.text.as_bytes()), anomaly.environment.ok());
        }
        assert!(find_tokens(text).all(|token| text.contains(token)));
        let _ = KeyPrefix::parse(text).map(|prefix| prefix.claims(input));
    }
    made_from(input, &prefix);
});

/// A key generated from the input is valid, and no near miss is.
fn made_from(input: &[u8], prefix: &KeyPrefix) {
    let [place, other, ..] = *input else { return };
    let mut at = 0usize;
    let mut random = || {
        at += 1;
        // Not only the input: a byte that is drawn again must not repeat forever.
        input[at % input.len()].wrapping_add((at as u8).wrapping_mul(37))
    };
    let environment = if place % 2 == 0 { Environment::Live } else { Environment::Test };
    let secret = compose_key(prefix, environment, &mut random);
    let key = secret.expose();
    assert_eq!(prefix.check(key.as_bytes()), Ok(environment));
    assert!(prefix.check(compose_token(prefix, &mut random).expose().as_bytes()).is_err());
    let mut changed = key.as_bytes().to_vec();
    let place = usize::from(place) % changed.len();
    if changed[place] != other {
        changed[place] = other;
        assert!(prefix.check(&changed).is_err(), "one wrong character is found");
    }
    assert!(prefix.check(&[key.as_bytes(), &[other]].concat()).is_err());
    assert!(prefix.check(&[&[other], key.as_bytes()].concat()).is_err());
    let text = format!("{} {key}{}", char::from(other % 128), char::from(other % 128));
    assert!(
        find_keys(prefix, &text).any(|anomaly| anomaly.text == key && anomaly.environment == Ok(environment))
    );
}

fn reference(credential: &[u8]) -> Option<Environment> {
    let environment = match credential.get(..9)? {
        b"omf_live_" => Environment::Live,
        b"omf_test_" => Environment::Test,
        _ => return None,
    };
    let (covered, sum) = credential.split_at_checked(49)?;
    let fits = credential.len() == 55 && credential[9..].iter().all(u8::is_ascii_alphanumeric);
    (fits && sum == base62(crc32(covered))).then_some(environment)
}

/// CRC-32 (IEEE 802.3), a bit at a time.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

fn base62(mut number: u32) -> Vec<u8> {
    let mut digits = vec![b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(number % 62) as usize];
        number /= 62;
    }
    digits
}
