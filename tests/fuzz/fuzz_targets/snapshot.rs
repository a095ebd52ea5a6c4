//! Parts of a snapshot. The checksum of the fuzzer's input is corrected; otherwise, no input would pass the check.
#![no_main]

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use omniflow_policy::address::Allowlist;
use omniflow_policy::digest::Digest;
use omniflow_policy::key::Environment;
use omniflow_policy::limit::RateLimit;
use omniflow_policy::policy::PolicyDocument;
use omniflow_policy::scope::ScopeSet;
use omniflow_policy::snapshot::{
    Change, Credential, Delta, Image, Manifest, Segment, SegmentHasher, SegmentId, split_chunk,
    unchecked_version,
};
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

const INSTALLATION: Uuid = Uuid::from_u128(7);

#[derive(Arbitrary, Debug)]
enum Case<'a> {
    Bytes(&'a [u8]),
    Sealed(u8, &'a [u8]),
    Page(&'a [u8]),
    Images { credentials: Vec<Made>, changes: Vec<Changed>, damage: (u16, u8) },
}

#[derive(Debug)]
struct Made(Credential);

#[derive(Arbitrary, Debug)]
enum Changed {
    Put(Made),
    Revoke(u8),
    Policy,
}

impl<'a> Arbitrary<'a> for Made {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        // Few digests, so that changes apply to existing entries.
        let digest = Digest::of(&[bytes.int_in_range(0..=15)?]);
        let scopes = ["a:b", "c:d", "e:f"].iter().filter(|_| bytes.arbitrary().unwrap_or(false));
        let scopes = ScopeSet::new(scopes.map(|scope| scope.parse().expect("a scope"))).expect("few");
        let networks = ["10.0.0.0/8", "2001:db8::/32", "203.0.113.7"];
        let networks = networks.iter().copied().filter(|_| bytes.arbitrary().unwrap_or(false));
        let allowlist = Allowlist::parse(networks).expect("networks");
        let name: String = bytes.arbitrary::<&str>()?.chars().take(60).collect();
        Ok(Self(Credential {
            digest,
            key_id: Uuid::from_u128(bytes.arbitrary()?),
            version: bytes.arbitrary()?,
            environment: if bytes.arbitrary()? { Environment::Live } else { Environment::Test },
            revoked: bytes.arbitrary()?,
            not_after: bytes.arbitrary::<Option<u64>>()?.filter(|end| *end != u64::MAX).map(UnixMillis),
            name,
            scopes,
            rate_limit: RateLimit {
                per_minute: Some(bytes.int_in_range(1..=1_000_000)?),
                per_hour: bytes.arbitrary::<Option<u8>>()?.map(|limit| u32::from(limit) + 1),
                burst: None,
            },
            allowlist,
        }))
    }
}

fuzz_target!(|case: Case| match case {
    Case::Bytes(bytes) => read_all(bytes),
    Case::Sealed(kind, body) => {
        let magic = if kind % 2 == 0 { b"OMFM" } else { b"OMFD" };
        read_all(&sealed(magic, body));
    }
    Case::Page(bytes) => {
        let mut bytes = bytes.to_vec();
        if bytes.len() >= 64 {
            bytes[..4].copy_from_slice(b"OMFP");
            bytes[4..6].copy_from_slice(&1u16.to_le_bytes());
            let length = bytes.len() as u32;
            bytes[12..16].copy_from_slice(&length.to_le_bytes());
            put_page_crc(&mut bytes);
        }
        read_all(&bytes);
    }
    Case::Images { credentials, changes, damage } => images(credentials, changes, damage),
});

/// Magic, format, CRC-32 over all else, body.
fn sealed(magic: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let head = [magic.as_slice(), &1u16.to_le_bytes()].concat();
    let crc = crc32fast::hash(&[head.as_slice(), body].concat());
    [head.as_slice(), &crc.to_le_bytes(), body].concat()
}

fn put_page_crc(page: &mut [u8]) {
    page[8..12].fill(0);
    let crc = crc32fast::hash(page);
    page[8..12].copy_from_slice(&crc.to_le_bytes());
}

/// Any bytes, as each part that they could be.
fn read_all(bytes: &[u8]) {
    let _ = unchecked_version(bytes);
    if let Ok(manifest) = Manifest::decode(bytes) {
        assert!(manifest.segment_count() <= 65_536 && manifest.chunk_count() >= 1);
        assert_eq!(Manifest::decode(&manifest.encode()).as_ref(), Ok(&manifest));
        let _ = manifest.policy();
    }
    if let Ok(delta) = Delta::decode(bytes) {
        assert_eq!(Delta::decode(&delta.encode()).as_ref(), Ok(&delta));
        let image = Image::build(delta.installation, delta.from, &PolicyDocument::default(), Vec::new());
        let _ = image.and_then(|image| image.apply(&delta));
    }
    for page in split_chunk(bytes).into_iter().flatten().chain([bytes]) {
        read_page(page);
    }
}

fn read_page(bytes: &[u8]) {
    let Some(header) = bytes.get(..64) else { return };
    let id = SegmentId {
        installation: Uuid::from_slice(&header[16..32]).expect("16 bytes"),
        bits: header[6],
        index: u32::from_le_bytes([header[40], header[41], header[42], header[43]]),
    };
    let Ok(page) = Segment::parse(bytes, id) else { return };
    let mut sum = SegmentHasher::default();
    sum.add(&page);
    let credentials: Vec<Credential> = page.credentials().collect();
    assert_eq!(credentials.len(), page.len(), "a page that was checked has every credential");
    for credential in &credentials {
        let view = page.find(&credential.digest).expect("it is there");
        assert_eq!(view.revoked, credential.revoked);
        assert!(view.rate_limit.validate().is_ok(), "no key is without a limit");
    }
    let other = Digest::of(b"nobody's");
    let is_there = credentials.iter().any(|credential| credential.digest == other);
    assert_eq!(page.find(&other).is_some(), is_there);
    let revoked: Vec<Change> = credentials.iter().map(|known| Change::Revoke(known.digest)).collect();
    if let Ok(next) = page.apply(page.version().saturating_add(1), &revoked) {
        assert!(next.credentials().all(|credential| credential.revoked));
        assert_eq!(next.len(), page.len());
    }
}

/// An image with a delta applied equals a new image, and no corruption of a part goes unnoticed.
fn images(credentials: Vec<Made>, changes: Vec<Changed>, (place, bits): (u16, u8)) {
    let mut expected = std::collections::BTreeMap::new();
    for Made(credential) in credentials {
        expected.insert(credential.digest, credential);
    }
    let policy = PolicyDocument::default();
    let before =
        Image::build(INSTALLATION, 1, &policy, expected.values().cloned().collect()).expect("an image");
    let mut delta = Delta { installation: INSTALLATION, from: 1, to: 2, policy: None, changes: Vec::new() };
    for change in changes {
        match change {
            Changed::Put(Made(credential)) => {
                expected.insert(credential.digest, credential.clone());
                delta.changes.push(Change::Put(credential));
            }
            Changed::Revoke(number) => {
                let digest = Digest::of(&[number % 16]);
                if let Some(known) = expected.get_mut(&digest) {
                    known.revoked = true;
                }
                delta.changes.push(Change::Revoke(digest));
            }
            Changed::Policy => delta.policy = Some(policy.to_json()),
        }
    }
    if delta.changes.len() > omniflow_policy::snapshot::MAX_CHANGES_PER_DELTA {
        return;
    }
    let travelled = Delta::decode(&delta.encode()).expect("what was written is read");
    assert_eq!(travelled, delta);
    let after = before.apply(&travelled).expect("it fits");
    let anew =
        Image::build(INSTALLATION, 2, &policy, expected.values().cloned().collect()).expect("an image");
    for (digest, credential) in &expected {
        let view = after.find(digest).expect("it is there");
        assert_eq!(
            (view.revoked, view.key_id, view.name),
            (credential.revoked, credential.key_id, credential.name.as_str())
        );
    }
    assert_eq!(after.len(), anew.len());
    for part in
        [delta.encode(), after.manifest().encode()].into_iter().chain(after.segments().map(<[u8]>::to_vec))
    {
        let mut damaged = part.clone();
        let place = usize::from(place) % damaged.len();
        damaged[place] ^= bits;
        if damaged != part {
            assert!(Delta::decode(&damaged).is_err() && Manifest::decode(&damaged).is_err());
            assert!(Segment::parse(damaged, after.manifest().segment_id(0)).is_err());
        }
    }
}
