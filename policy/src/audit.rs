//! The record of one call, and the batches in which records travel to the control plane.
//!
//! A batch is 4 bytes of magic, 2 of format (little-endian), then postcard: the batch's header, the gateway's progress
//! where it is known, then items to the end, of which there may be none. Each item is encoded once, when the call ends,
//! and batches are made by joining encoded items. Older filters send format 3, which has no progress, format 2, which has
//! no payloads either, or format 1, in which all items are calls, without the byte that tells their kind.

mod fold;
mod item;
mod progress;

use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::fold::{FULL_RECORDS, MAX_PAIRS, RefusalFold, WINDOW};
pub use self::item::{AuditItem, FoldedRefusals, LossCause, LostCalls};
pub use self::progress::{GatewayProgress, MAX_PROGRESS_VMS, VmProgress};
use crate::digest::{Digest, DigestStream};
use crate::gateway::Incarnation;
use crate::key::Environment;
use crate::outcome::Outcome;
pub use crate::redaction::REDACTED;
use crate::redaction::blot_out;
use crate::time::UnixMillis;

/// The first bytes of a batch.
pub const MAGIC: [u8; 4] = *b"OMFA";
/// The format that this crate writes.
pub const FORMAT: u16 = 4;
/// The formats of older filters, which are read as well.
const WITHOUT_PROGRESS: u16 = 3;
const WITHOUT_PAYLOADS: u16 = 2;
const CALLS_ONLY: u16 = 1;
/// The most bytes of a text that came from the caller (method, path, request id). What is longer is cut.
pub const MAX_TEXT: usize = 2_048;

/// One call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Counts a VM's calls from 0. A number that never arrives is a lost record.
    pub sequence: u64,
    /// When the call began.
    pub time: UnixMillis,
    /// The key, where the caller presented one that exists.
    pub key: Option<AuditKey>,
    /// The method.
    pub method: String,
    /// The template of the route.
    pub endpoint: Option<String>,
    /// The path, without the query string.
    pub path: String,
    /// The status that the caller got; 0 where it got none.
    pub status: u16,
    /// The decision and its reason.
    pub outcome: Outcome,
    /// From the head of the request to the end of the stream, in microseconds.
    pub latency_us: u64,
    /// The caller's address as Envoy knows it.
    pub source_ip: Option<IpAddr>,
    /// Envoy's request id.
    pub request_id: String,
    /// Bytes of the request's body that have passed.
    pub request_bytes: u64,
    /// Bytes of the response's body.
    pub response_bytes: u64,
    /// See [`ArgumentHash`].
    pub argument_hash: Digest,
    /// Whether the body did not pass in full, so that the hash covers its beginning only.
    pub argument_hash_partial: bool,
}

/// The key of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditKey {
    /// The key.
    pub id: Uuid,
    /// Its name at the time of the call.
    pub name: String,
    /// The version that was used.
    pub version: u16,
    /// Its environment.
    pub environment: Environment,
}

/// What stands at the head of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditSource {
    /// The gateway's name.
    pub gateway: String,
    /// The run of the gateway's process.
    pub incarnation: Incarnation,
    /// The run of the VM.
    pub vm: Incarnation,
}

/// Items of one VM, in the order of their sequence numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditBatch {
    /// Where they come from.
    pub source: AuditSource,
    /// How far the whole gateway has come. Older filters do not tell.
    pub progress: Option<GatewayProgress>,
    /// The items. There may be none where the word of the progress is all there is to say.
    pub items: Vec<AuditItem>,
}

/// Bytes that are no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBatch {
    /// The magic is missing.
    #[error("not an audit batch")]
    Foreign,
    /// Another format.
    #[error("audit batch format {0} is not supported; this side reads formats 1 to {FORMAT}")]
    Format(u16),
    /// Cut short or damaged.
    #[error("the audit batch is damaged")]
    Damaged,
}

/// The hash of a call's arguments: SHA-256 over the query string (without its question mark), one line feed, and
/// the body. A query string has no line feed, so the two cannot be confused.
///
/// With OpenSSL: `{ printf '%s\n' "$QUERY"; cat body; } | openssl dgst -sha256`.
#[derive(Clone)]
pub struct ArgumentHash(Option<DigestStream>);

/// The hash of a call without arguments, SHA-256 of a line feed: a GET without a query string need not compute it.
const NO_ARGUMENTS: Digest = Digest::from_bytes([
    0x01, 0xba, 0x47, 0x19, 0xc8, 0x0b, 0x6f, 0xe9, 0x11, 0xb0, 0x91, 0xa7, 0xc0, 0x51, 0x24, 0xb6, 0x4e,
    0xee, 0xce, 0x96, 0x4e, 0x09, 0xc0, 0x58, 0xef, 0x8f, 0x98, 0x05, 0xda, 0xca, 0x54, 0x6b,
]);

// === impl AuditRecord ===

impl AuditRecord {
    /// Whether no text is longer than a filter makes it.
    fn is_in_bounds(&self) -> bool {
        let endpoint = self.endpoint.as_deref().unwrap_or_default();
        let name = self.key.as_ref().map_or("", |key| key.name.as_str());
        [&self.method, &self.path, &self.request_id, endpoint, name].iter().all(|text| text.len() <= MAX_TEXT)
    }
}

/// Text that came from a caller, as UTF-8 and at most [`MAX_TEXT`] bytes. Bytes outside UTF-8 become U+FFFD.
///
/// What has the form of a key or token, whatever its prefix and wherever it stands, percent-encoded or not, is blotted
/// out: callers do put secrets into paths.
pub fn clip(bytes: &[u8]) -> String {
    blot_out(cut(bytes))
}

fn cut(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes.get(..MAX_TEXT).unwrap_or(bytes)).into_owned();
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

// === impl AuditBatch ===

impl AuditBatch {
    /// A batch of calls.
    pub fn of_calls(source: AuditSource, records: Vec<AuditRecord>) -> Self {
        Self { source, progress: None, items: records.into_iter().map(AuditItem::Call).collect() }
    }

    /// Joins encoded items to a batch.
    pub fn join<'a>(
        source: &AuditSource,
        progress: Option<&GatewayProgress>,
        items: impl IntoIterator<Item = &'a [u8]>,
    ) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend(postcard::to_allocvec(&(source, progress)).unwrap_or_default());
        for item in items {
            bytes.extend_from_slice(item);
        }
        bytes
    }

    /// Encodes the batch.
    pub fn encode(&self) -> Vec<u8> {
        let items: Vec<Vec<u8>> = self.items.iter().map(AuditItem::encode).collect();
        Self::join(&self.source, self.progress.as_ref(), items.iter().map(Vec::as_slice))
    }

    /// Reads a batch whole, of this format or an older one.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidBatch> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(InvalidBatch::Foreign)?;
        let (format, rest) = rest.split_first_chunk().ok_or(InvalidBatch::Damaged)?;
        let (tells_progress, calls_only) = match u16::from_le_bytes(*format) {
            FORMAT => (true, false),
            WITHOUT_PROGRESS | WITHOUT_PAYLOADS => (false, false),
            CALLS_ONLY => (false, true),
            other => return Err(InvalidBatch::Format(other)),
        };
        let (source, rest) = take(rest)?;
        let (progress, mut rest): (Option<GatewayProgress>, _) =
            if tells_progress { take(rest)? } else { (None, rest) };
        if progress.as_ref().is_some_and(|progress| !progress.is_in_bounds()) {
            return Err(InvalidBatch::Damaged);
        }
        let mut items = Vec::new();
        while !rest.is_empty() {
            let (item, after) = if calls_only {
                let (record, after) = take(rest)?;
                (AuditItem::Call(record), after)
            } else {
                take(rest)?
            };
            if !item.is_in_bounds() {
                return Err(InvalidBatch::Damaged);
            }
            items.push(item);
            rest = after;
        }
        Ok(Self { source, progress, items })
    }
}

fn take<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), InvalidBatch> {
    postcard::take_from_bytes(bytes).map_err(|_| InvalidBatch::Damaged)
}

// === impl ArgumentHash ===

impl ArgumentHash {
    /// Begins with the query string.
    pub fn new(query: &[u8]) -> Self {
        Self((!query.is_empty()).then(|| begin(query)))
    }

    /// Adds a piece of the body.
    pub fn update(&mut self, body: &[u8]) {
        if !body.is_empty() {
            self.0.get_or_insert_with(|| begin(b"")).update(body);
        }
    }

    /// The hash.
    pub fn finish(self) -> Digest {
        self.0.map_or(NO_ARGUMENTS, DigestStream::finish)
    }
}

fn begin(query: &[u8]) -> DigestStream {
    let mut digest = DigestStream::default();
    digest.update(query);
    digest.update(b"\n");
    digest
}

#[cfg(test)]
mod tests {
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use proptest::prelude::*;

    use super::*;
    use crate::outcome::Denial;
    use crate::payload::{CallPayload, MAX_PAYLOAD_BYTES, PayloadState};

    fn record(sequence: u64) -> AuditRecord {
        AuditRecord {
            sequence,
            time: UnixMillis(1_700_000_000_123),
            key: Some(AuditKey {
                id: Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001),
                name: "crm-sync".into(),
                version: 2,
                environment: Environment::Live,
            }),
            method: "GET".into(),
            endpoint: Some("/api/v1/contacts/{id}".into()),
            path: "/api/v1/contacts/7".into(),
            status: 403,
            outcome: Outcome::Denied(Denial::InsufficientScope),
            latency_us: 1_234,
            source_ip: Some("203.0.113.7".parse().unwrap()),
            request_id: "d1".into(),
            request_bytes: 120,
            response_bytes: 310,
            argument_hash: ArgumentHash::new(b"a=1").finish(),
            argument_hash_partial: false,
        }
    }

    fn batch() -> AuditBatch {
        let source =
            AuditSource { gateway: "edge-1".into(), incarnation: Incarnation(1), vm: Incarnation(2) };
        let folded = FoldedRefusals {
            sequence: 2,
            source_ip: Some("2001:db8::7".parse().unwrap()),
            reason: Denial::UnknownKey,
            calls: 40,
            first_time: UnixMillis(1_700_000_000_200),
            last_time: UnixMillis(1_700_000_000_900),
        };
        let lost = LostCalls {
            sequence: 42,
            calls: 7,
            cause: LossCause::VmLost,
            from: None,
            to: UnixMillis(1_700_000_001_000),
        };
        let payload = CallPayload {
            query: b"a=1".to_vec(),
            body: b"{}".to_vec(),
            state: PayloadState::Cut,
            media_type: "application/json".into(),
            content_encoding: String::new(),
        };
        let items = vec![
            AuditItem::Call(record(0)),
            AuditItem::Call(record(1)),
            AuditItem::Folded(folded),
            AuditItem::Lost(lost),
            AuditItem::CallWithPayload(record(49), payload),
        ];
        let vm = |id, begun, acknowledged| VmProgress {
            id: Incarnation(id),
            begun,
            acknowledged,
            at: UnixMillis(1_700_000_001_500),
        };
        let progress = GatewayProgress {
            clock: 86_400_000,
            at: UnixMillis(1_700_000_001_600),
            settled: false,
            vms: vec![vm(2, 50, 40), vm(3, 0, 0)],
        };
        AuditBatch { source, progress: Some(progress), items }
    }

    /// A batch as older filters send it.
    fn calls_only(records: &[AuditRecord]) -> Vec<u8> {
        let mut bytes = b"OMFA\x01\x00".to_vec();
        bytes.extend(postcard::to_allocvec(&batch().source).unwrap());
        for record in records {
            bytes.extend(postcard::to_allocvec(record).unwrap());
        }
        bytes
    }

    #[test]
    fn a_batch_comes_back_whole() {
        assert_eq!(AuditBatch::decode(&batch().encode()), Ok(batch()));
    }

    #[test]
    fn the_formats_are_golden() {
        // Batches of an older filter must stay readable: these bytes never change for their format.
        assert_eq!(hex::encode(batch().encode()), include_str!("../golden/audit-batch-4.hex").trim());
        let older = hex::decode(include_str!("../golden/audit-batch-3.hex").trim()).unwrap();
        assert_eq!(AuditBatch::decode(&older), Ok(AuditBatch { progress: None, ..batch() }));
        let older = hex::decode(include_str!("../golden/audit-batch-2.hex").trim()).unwrap();
        let items = batch().items.into_iter().take(4).collect();
        assert_eq!(AuditBatch::decode(&older), Ok(AuditBatch { items, progress: None, ..batch() }));
        let older = hex::decode(include_str!("../golden/audit-batch-1.hex").trim()).unwrap();
        assert_eq!(older, calls_only(&[record(5)]));
        let expected = AuditBatch::of_calls(batch().source, vec![record(5)]);
        assert_eq!(AuditBatch::decode(&older), Ok(expected));
    }

    #[test]
    fn numbers_count_calls_and_no_item_is_empty() {
        let spans: Vec<_> =
            batch().items.iter().map(|item| (item.sequence(), item.next_sequence())).collect();
        assert_eq!(spans, [(0, 1), (1, 2), (2, 42), (42, 49), (49, 50)]);
        for mut item in batch().items {
            match &mut item {
                AuditItem::Call(_) | AuditItem::CallWithPayload(..) => continue,
                AuditItem::Folded(folded) => folded.calls = 0,
                AuditItem::Lost(lost) => lost.calls = 0,
            }
            let bytes = AuditBatch { items: vec![item], ..batch() }.encode();
            assert_eq!(AuditBatch::decode(&bytes), Err(InvalidBatch::Damaged));
        }
    }

    #[test]
    fn no_time_lies_behind_the_latest_and_no_beginning_behind_its_end() {
        let latest = UnixMillis(1_000);
        for mut item in batch().items {
            item.clamp_times(latest);
            assert_eq!(item.time(), latest);
            match item {
                AuditItem::Folded(folded) => assert_eq!(folded.first_time, latest),
                AuditItem::Call(_) | AuditItem::CallWithPayload(..) | AuditItem::Lost(_) => {}
            }
        }
    }

    #[test]
    fn garbage_is_refused() {
        assert_eq!(AuditBatch::decode(b""), Err(InvalidBatch::Foreign));
        assert_eq!(AuditBatch::decode(b"OMFA"), Err(InvalidBatch::Damaged));
        assert_eq!(AuditBatch::decode(b"OMFA\x05\x00"), Err(InvalidBatch::Format(5)));
        let bytes = batch().encode();
        for end in 6..bytes.len() {
            let cut = AuditBatch::decode(&bytes[..end]);
            assert!(cut.is_err() || cut.unwrap().items.len() < 5, "cut at {end}");
        }
    }

    #[test]
    fn a_word_of_the_progress_needs_no_items_and_names_no_more_vms_than_a_filter_has() {
        let word = AuditBatch { items: Vec::new(), ..batch() };
        assert_eq!(AuditBatch::decode(&word.encode()), Ok(word.clone()));
        let mut progress = word.progress.clone().unwrap();
        progress.vms.resize(MAX_PROGRESS_VMS + 1, progress.vms[0]);
        let too_many = AuditBatch { progress: Some(progress), ..word };
        assert_eq!(AuditBatch::decode(&too_many.encode()), Err(InvalidBatch::Damaged));
    }

    #[test]
    fn no_payload_is_longer_than_a_filter_makes_it() {
        let mut items = batch().items;
        let Some(AuditItem::CallWithPayload(_, payload)) = items.last_mut() else { panic!("no payload") };
        payload.body = vec![0; MAX_PAYLOAD_BYTES as usize];
        let bytes = AuditBatch { items, ..batch() }.encode();
        assert_eq!(AuditBatch::decode(&bytes), Err(InvalidBatch::Damaged));
    }

    #[test]
    fn arguments_hash_as_documented() {
        let mut hash = ArgumentHash::new(b"q=1&r=2");
        hash.update(b"{\"a\":");
        hash.update(b"1}");
        assert_eq!(hash.finish(), Digest::of(b"q=1&r=2\n{\"a\":1}"));
        let mut body_alone = ArgumentHash::new(b"");
        assert_eq!(body_alone.clone().finish(), Digest::of(b"\n"));
        body_alone.update(b"");
        assert_eq!(body_alone.clone().finish(), Digest::of(b"\n"));
        body_alone.update(b"{}");
        assert_eq!(body_alone.finish(), Digest::of(b"\n{}"));
    }

    #[test]
    fn secrets_in_text_are_blotted_out() {
        let secret = "a1B2".repeat(12);
        for mark in ["omf_live_", "omf%5Flive%5F", "omf_live_test_"] {
            assert_eq!(clip(format!("/a/{mark}{secret}/b").as_bytes()), format!("/a/{mark}***/b"));
        }
    }

    #[test]
    fn clipped_text_is_short_and_utf8() {
        assert_eq!(clip(b"/a\xff"), "/a\u{fffd}");
        assert!(clip(&[0xff; 10_000]).len() <= MAX_TEXT);
        assert!(clip("é".repeat(5_000).as_bytes()).len() <= MAX_TEXT);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = AuditBatch::decode(&bytes);
            let mut framed = MAGIC.to_vec();
            framed.extend_from_slice(&[1, 0]);
            framed.extend_from_slice(&bytes);
            let _ = AuditBatch::decode(&framed);
            for format in [2, 3, 4] {
                framed[4] = format;
                let _ = AuditBatch::decode(&framed);
            }
            let _ = clip(&bytes);
        }
    }
}
