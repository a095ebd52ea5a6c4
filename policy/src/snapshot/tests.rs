use std::sync::Arc;

use uuid::Uuid;
#[cfg(target_family = "wasm")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;
use crate::address::Allowlist;
use crate::digest::Digest;
use crate::key::Environment;
use crate::limit::RateLimit;
use crate::policy::PolicyDocument;
use crate::scope::ScopeSet;
use crate::time::UnixMillis;

const INSTALLATION: Uuid = Uuid::from_u128(7);

fn credential(number: u32) -> Credential {
    let scopes = ["contacts:read", "tickets:write"].into_iter().take(number as usize % 3);
    Credential {
        digest: Digest::of(&number.to_le_bytes()),
        key_id: Uuid::from_u128(u128::from(number) + 1),
        version: 1 + (number % 3) as u16,
        environment: if number.is_multiple_of(2) { Environment::Live } else { Environment::Test },
        revoked: number.is_multiple_of(11),
        not_after: number.is_multiple_of(5).then_some(UnixMillis(1_900_000_000_000)),
        name: format!("key-{number}"),
        scopes: ScopeSet::new(scopes.map(|scope| scope.parse().unwrap())).unwrap(),
        rate_limit: RateLimit { per_minute: Some(60 + number % 4), per_hour: None, burst: None },
        allowlist: Allowlist::parse(["10.0.0.0/8", "2001:db8::/32"].into_iter().take(number as usize % 2))
            .unwrap(),
    }
}

fn image(numbers: impl IntoIterator<Item = u32>, version: u64) -> Image {
    let credentials = numbers.into_iter().map(credential).collect();
    Image::build(INSTALLATION, version, &PolicyDocument::default(), credentials).unwrap()
}

fn delta(from: u64, to: u64, changes: Vec<Change>) -> Delta {
    Delta { installation: INSTALLATION, from, to, policy: None, changes }
}

/// All credentials of an image, after encoding and decoding it.
fn round_trip(image: &Image) -> Vec<Credential> {
    let manifest = Manifest::decode(&image.manifest().encode()).unwrap();
    assert_eq!(manifest, image.manifest());
    let mut index = 0;
    let mut credentials = Vec::new();
    for chunk in 0..manifest.chunk_count() {
        for segment in split_chunk(&image.chunk_bytes(chunk).unwrap()).unwrap() {
            credentials.extend(Segment::parse(segment, manifest.segment_id(index)).unwrap().credentials());
            index += 1;
        }
    }
    assert_eq!(index, manifest.segment_count());
    assert!(image.chunk(manifest.chunk_count()).is_none());
    credentials
}

#[test]
fn every_credential_is_found_and_no_others_are() {
    let image = image(0..5_000, 3);
    assert_eq!(image.manifest().segment_bits, 7);
    for number in 0..5_000 {
        let expected = credential(number);
        let view = image.find(&expected.digest).unwrap();
        assert_eq!(view.name, expected.name);
        assert_eq!(view.scopes, expected.scopes.joined());
        assert_eq!(view.rate_limit, expected.rate_limit);
        assert_eq!(view.allowlist.to_owned(), expected.allowlist);
        assert_eq!((view.revoked, view.not_after), (expected.revoked, expected.not_after));
    }
    for number in 5_000..10_000 {
        assert!(image.find(&credential(number).digest).is_none());
    }
    let mut all: Vec<_> = (0..5_000).map(credential).collect();
    all.sort_by_key(|credential| credential.digest);
    assert_eq!(round_trip(&image), all);
}

#[test]
fn the_same_credentials_yield_the_same_bytes() {
    let forward = image(0..1_000, 9);
    let backward = image((0..1_000).rev(), 9);
    assert!(forward.segments().eq(backward.segments()));
}

#[test]
fn a_key_takes_less_than_100_bytes() {
    let image = image(0..20_000, 1);
    let bytes: usize = image.segments().map(<[u8]>::len).sum();
    assert!(bytes < 100 * 20_000, "{} bytes a key", bytes / 20_000);
}

#[test]
fn a_revocation_takes_at_most_100_bytes() {
    let delta = delta(1_700_000_000_000, 1_700_000_000_001, vec![Change::Revoke(credential(1).digest)]);
    let bytes = delta.encode();
    assert!(bytes.len() <= 100, "{} bytes", bytes.len());
    assert_eq!(Delta::decode(&bytes), Ok(delta));
}

#[test]
fn the_formats_are_golden() {
    // Gateways and control planes are upgraded one at a time, so these bytes never change for format 1.
    let image = image(0..3, 5);
    let segment = image.chunk_bytes(0).unwrap();
    assert_eq!(hex::encode(segment), include_str!("../../golden/segment-1.hex").trim());
    let manifest = hex::encode(image.manifest().encode());
    assert_eq!(manifest, include_str!("../../golden/manifest-1.hex").trim());
    let mut delta = delta(5, 9, vec![Change::Put(credential(3)), Change::Revoke(credential(1).digest)]);
    delta.policy = Some(PolicyDocument::default().to_json());
    assert_eq!(hex::encode(delta.encode()), include_str!("../../golden/delta-1.hex").trim());
}

#[test]
fn parts_of_other_images_are_rejected() {
    let image = image(0..300, 5);
    let manifest = image.manifest();
    let chunk = image.chunk_bytes(0).unwrap();
    let segment = split_chunk(&chunk).unwrap()[0];
    let other = SegmentId { installation: Uuid::from_u128(8), ..manifest.segment_id(0) };
    assert_eq!(Segment::parse(segment, other).map(|_| ()), Err(SnapshotError::OtherInstallation));
    assert_eq!(Segment::parse(segment, manifest.segment_id(1)).map(|_| ()), Err(SnapshotError::Mismatch));
    assert_eq!(
        Segment::parse(&b"OMFP\x02\x00"[..], manifest.segment_id(0)).map(|_| ()),
        Err(SnapshotError::Format(2))
    );
    let foreign = Delta { installation: Uuid::from_u128(8), ..delta(5, 6, vec![]) };
    assert_eq!(image.apply(&foreign).map(|_| ()), Err(SnapshotError::OtherInstallation));
    for (from, to) in [(4, 6), (6, 7), (5, 5), (5, 4)] {
        assert_eq!(image.apply(&delta(from, to, vec![])).map(|_| ()), Err(SnapshotError::Mismatch));
    }
    let too_many: Vec<_> = (0..257).map(|number| Change::Put(credential(number))).collect();
    assert_eq!(Delta::decode(&delta(5, 6, too_many).encode()), Err(SnapshotError::Damaged));
}

/// Damages each byte of each part in its lowest bit, its highest bit, and all bits.
#[test]
fn every_damaged_byte_is_detected() {
    let image = image(0..40, 5);
    let manifest = image.manifest().encode();
    let delta = delta(5, 6, vec![Change::Put(credential(2)), Change::Revoke(credential(3).digest)]).encode();
    let segment = image.chunk_bytes(0).unwrap();
    for mask in [0x01, 0x80, 0xff] {
        let damaged = |bytes: &[u8], at: usize| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= mask;
            bytes
        };
        for at in 0..manifest.len() {
            assert!(Manifest::decode(&damaged(&manifest, at)).is_err(), "manifest, byte {at}");
        }
        for at in 0..delta.len() {
            assert!(Delta::decode(&damaged(&delta, at)).is_err(), "delta, byte {at}");
        }
        for at in 0..segment.len() {
            let parsed = Segment::parse(damaged(&segment, at), image.manifest().segment_id(0));
            assert!(parsed.is_err(), "segment, byte {at}");
        }
    }
}

#[test]
fn a_credential_without_a_limit_is_rejected() {
    let mut unlimited = credential(1);
    unlimited.rate_limit = RateLimit { per_minute: None, per_hour: None, burst: None };
    let built = Image::build(INSTALLATION, 1, &PolicyDocument::default(), vec![unlimited.clone()]);
    assert_eq!(built.map(|_| ()), Err(SnapshotError::Damaged));
    let changed = image(0..3, 1).apply(&delta(1, 2, vec![Change::Put(unlimited)]));
    assert_eq!(changed.map(|_| ()), Err(SnapshotError::Damaged));
}

#[test]
fn an_image_that_grew_is_repartitioned_into_more_segments() {
    let mut image = image(0..100, 1);
    for step in 1..=5u64 {
        let start = step as u32 * 200;
        let changes = (start..start + 200).map(|number| Change::Put(credential(number))).collect();
        image = image.apply(&delta(step, step + 1, changes)).unwrap();
    }
    assert!(image.needs_repartition());
    let rebuilt = image.repartition().unwrap();
    assert!(!rebuilt.needs_repartition());
    assert_eq!(round_trip(&rebuilt), round_trip(&image));
}

/// A change copies one segment, and the chunk that refers to it.
#[test]
fn a_change_copies_one_segment_of_many() {
    let before = image(0..100_000, 1);
    let put = Credential { name: "renamed".to_owned(), ..credential(7) };
    for change in [Change::Revoke(credential(7).digest), Change::Put(put), Change::Put(credential(100_000))] {
        let after = before.apply(&delta(1, 2, vec![change])).unwrap();
        let shared = before.chunks().zip(after.chunks()).filter(|(old, new)| Arc::ptr_eq(old, new)).count();
        assert_eq!(shared, before.manifest().chunk_count() as usize - 1);
        let segments =
            |image: &Image| image.chunks().flat_map(|chunk| chunk.iter().cloned()).collect::<Vec<_>>();
        let (old, new) = (segments(&before), segments(&after));
        assert_eq!(old.iter().zip(&new).filter(|(old, new)| !Arc::ptr_eq(old, new)).count(), 1);
        assert_eq!(after.len(), new.iter().map(|segment| segment.len()).sum::<usize>());
    }
}

#[test]
fn a_revocation_only_sets_flags() {
    let before = image(0..3_000, 1);
    let digests: Vec<Digest> = [3, 4, 5, 4, 2_999].map(|number| credential(number).digest).into();
    let changes = digests.iter().map(|digest| Change::Revoke(*digest)).collect();
    let after = before.apply(&delta(1, 2, changes)).unwrap();
    let expected = (0..3_000).map(credential).map(|credential| Credential {
        revoked: credential.revoked || digests.contains(&credential.digest),
        ..credential
    });
    let built = Image::build(INSTALLATION, 2, &PolicyDocument::default(), expected.collect()).unwrap();
    for (index, (patched, built)) in (0..).zip(after.segments().zip(built.segments())) {
        let id = after.manifest().segment_id(index);
        let (patched, built) = (Segment::parse(patched, id).unwrap(), Segment::parse(built, id).unwrap());
        assert!(patched.credentials().eq(built.credentials()));
        if patched.version() == 2 {
            assert_eq!(patched.bytes(), built.bytes());
        }
    }
}

#[test]
fn several_builders_build_the_same_image_as_one() {
    let whole = image(0..5_000, 3);
    let builders = [0..1_234, 1_234..5_000].map(|numbers| {
        let mut builder = ImageBuilder::new(5_000);
        for credential in numbers.map(credential) {
            let profile = builder.profile(credential.rate_limit, &credential.scopes, &credential.allowlist);
            let Credential { digest, key_id, version, environment, revoked, not_after, .. } = credential;
            let name = &credential.name;
            builder
                .add(&ProfiledCredential {
                    digest,
                    key_id,
                    version,
                    environment,
                    revoked,
                    not_after,
                    name,
                    profile,
                })
                .unwrap();
        }
        builder
    });
    let half = builders[0].segment_count() / 2;
    let mut segments = ImageBuilder::segments(&builders, INSTALLATION, 3, 0..half).unwrap();
    segments.extend(ImageBuilder::segments(&builders, INSTALLATION, 3, half..u32::MAX).unwrap());
    let policy = PolicyDocument::default().to_json().into();
    let joined = Image::from_segments(INSTALLATION, 3, policy, segments).unwrap();
    assert_eq!(joined.manifest(), whole.manifest());
    assert!(joined.segments().eq(whole.segments()));
    let other = ImageBuilder::new(100);
    let [first, ..] = builders;
    assert!(ImageBuilder::segments(&[first, other], INSTALLATION, 3, 0..1).is_err());
}

mod properties;
