//! Properties that hold for arbitrary images, changes and bytes.

use std::collections::BTreeMap;

use proptest::prelude::*;
#[cfg(target_family = "wasm")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;
use crate::snapshot::framing::seal;
use crate::snapshot::segment::layout;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Deltas yield the same records as a new image, whatever the order of changes.
    #[test]
    fn deltas_yield_the_records_of_a_new_image(
        start in prop::collection::btree_set(0u32..200, 0..100),
        steps in prop::collection::vec(prop::collection::vec((0u32..200, any::<bool>()), 1..8), 1..8),
    ) {
        let mut expected: BTreeMap<Digest, Credential> =
            start.iter().map(|number| (credential(*number).digest, credential(*number))).collect();
        let mut image = image(start, 1);
        let mut version = 1;
        for step in steps {
            let mut changes = Vec::new();
            for (number, revoke) in step {
                let credential = credential(number);
                if revoke {
                    changes.push(Change::Revoke(credential.digest));
                    if let Some(known) = expected.get_mut(&credential.digest) {
                        known.revoked = true;
                    }
                } else {
                    changes.push(Change::Put(credential.clone()));
                    expected.insert(credential.digest, credential);
                }
            }
            let delta = Delta::decode(&delta(version, version + 3, changes).encode()).unwrap();
            image = image.apply(&delta).unwrap();
            version += 3;
            prop_assert_eq!(image.manifest().version, version);
        }
        prop_assert_eq!(round_trip(&image), expected.into_values().collect::<Vec<_>>());
    }

    /// Any change of one byte is detected, in every part.
    #[test]
    fn any_damaged_byte_is_detected(at: prop::sample::Index, mask in 1u8..) {
        let image = image(0..40, 5);
        let damage = |mut bytes: Vec<u8>| {
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
            bytes
        };
        prop_assert!(Manifest::decode(&damage(image.manifest().encode())).is_err());
        prop_assert!(Delta::decode(&damage(delta(5, 6, vec![Change::Put(credential(2))]).encode())).is_err());
        let segment = damage(image.chunk_bytes(0).unwrap());
        prop_assert!(Segment::parse(segment, image.manifest().segment_id(0)).is_err());
    }

    #[test]
    fn truncated_parts_are_rejected(at: prop::sample::Index) {
        let image = image(0..40, 5);
        let truncate = |bytes: Vec<u8>| bytes[..at.index(bytes.len())].to_vec();
        prop_assert!(Manifest::decode(&truncate(image.manifest().encode())).is_err());
        prop_assert!(Delta::decode(&truncate(delta(5, 6, vec![Change::Put(credential(2))]).encode())).is_err());
        prop_assert!(Segment::parse(truncate(image.chunk_bytes(0).unwrap()), image.manifest().segment_id(0)).is_err());
    }

    /// Bytes with a valid checksum but arbitrary content are decoded without a panic.
    #[test]
    fn arbitrary_content_with_a_valid_checksum_never_panics(body: Vec<u8>) {
        let _ = Manifest::decode(&seal(*b"OMFM", &body));
        let _ = Delta::decode(&seal(*b"OMFD", &body));
        let _ = split_chunk(&body);
        let mut segment = image(0..3, 5).chunk_bytes(0).unwrap();
        let from = segment.len().saturating_sub(body.len()).max(layout::HEADER_SIZE);
        for (slot, byte) in segment[from..].iter_mut().zip(body) {
            *slot = byte;
        }
        let crc = layout::segment_crc(&segment).to_le_bytes();
        segment[layout::CRC_OFFSET..layout::CRC_OFFSET + 4].copy_from_slice(&crc);
        if let Ok(segment) = Segment::parse(segment, image(0..3, 5).manifest().segment_id(0)) {
            let _ = segment.find(&credential(1).digest);
            let _ = segment.credentials().count();
        }
    }
}
