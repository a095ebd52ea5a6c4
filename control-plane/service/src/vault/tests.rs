use omniflow_policy::payload::PayloadState;
use tempfile::TempDir;

use super::*;
use omniflow_store::Store;
use omniflow_store_sqlite::SqliteStore;
use std::sync::Arc;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

struct Bench {
    store: Arc<dyn Store>,
    vault: Vault,
    folder: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&folder.path().join("data")).await.unwrap());
        let vault = Vault::open(&folder.path().join("key"), &*store, Entropy::system()).await.unwrap();
        Self { store, vault, folder }
    }

    /// Another process with the same files.
    async fn restart(self) -> Self {
        let Self { store, folder, .. } = self;
        let vault = Vault::open(&folder.path().join("key"), &*store, Entropy::system()).await.unwrap();
        Self { store, vault, folder }
    }

    async fn seal(&self, body: &[u8], now: UnixMillis) -> SealedPayload {
        let payloads = vec![(7, binding("1"), payload(body))];
        let mut sealed = self.vault.seal(&*self.store, now, payloads, Vec::new()).await.unwrap();
        sealed.remove(&7).unwrap()
    }

    async fn unseal(&self, sealed: &SealedPayload) -> Result<CallPayload, VaultError> {
        self.vault.unseal(&*self.store, &binding("1"), sealed).await
    }

    fn key_file(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("key")).unwrap()
    }

    fn write_key_file(&self, text: &str) {
        std::fs::write(self.folder.path().join("key"), text).unwrap();
    }
}

fn binding(request_id: &str) -> Binding {
    Binding { argument_hash: Digest::of(b"\n"), request_id: request_id.to_owned() }
}

fn payload(body: &[u8]) -> CallPayload {
    CallPayload {
        query: b"a=1".to_vec(),
        body: body.to_vec(),
        state: PayloadState::Whole,
        media_type: "text/plain".to_owned(),
        content_encoding: String::new(),
    }
}

#[tokio::test]
async fn a_payload_comes_back_to_its_own_record_only() {
    let bench = Bench::new().await;
    // As long as possible, and poorly compressible.
    let random = Entropy::system()
        .compose(|next| (3..MAX_PAYLOAD_BYTES).map(|_| next()).collect::<Vec<u8>>())
        .unwrap();
    for body in [&b""[..], b"hunter2", &random, &vec![b'a'; 100_000]] {
        let sealed = bench.seal(body, NOW).await;
        assert_eq!(bench.unseal(&sealed).await.unwrap(), payload(body));
    }
    let sealed = bench.seal(b"hunter2", NOW).await;
    let other = bench.vault.unseal(&*bench.store, &binding("2"), &sealed).await;
    assert!(matches!(other, Err(VaultError::Damaged)));
    assert!(bench.seal(&vec![b'a'; 100_000], NOW).await.sealed.len() < 5_000, "packed");
    assert_eq!(bench.store.data_keys().await.unwrap().len(), 1, "one data key a day");
}

#[tokio::test]
async fn each_day_and_each_start_has_its_data_key() {
    let bench = Bench::new().await;
    let first = bench.seal(b"1", NOW).await;
    assert_eq!(bench.seal(b"2", UnixMillis(NOW.0 + DATA_KEY_TIME - 1)).await.data_key, first.data_key);
    let second = bench.seal(b"2", UnixMillis(NOW.0 + DATA_KEY_TIME)).await;
    let bench = bench.restart().await;
    let third = bench.seal(b"3", UnixMillis(NOW.0 + DATA_KEY_TIME)).await;
    assert!(first.data_key < second.data_key && second.data_key < third.data_key);
    for (sealed, body) in [(first, b"1"), (second, b"2"), (third, b"3")] {
        assert_eq!(bench.unseal(&sealed).await.unwrap().body, body);
    }
}

#[tokio::test]
async fn a_rotation_leaves_nothing_to_the_key_before() {
    let bench = Bench::new().await;
    let (before, old_file) = (bench.seal(b"1", NOW).await, bench.key_file());
    let rotation = bench.vault.rotate(&*bench.store).await.unwrap();
    assert_eq!(rotation.data_keys, 1);
    let after = bench.seal(b"2", NOW).await;
    assert_ne!(before.data_key, after.data_key);
    let new_file = bench.key_file();
    assert!(new_file.lines().all(|line| line.starts_with('#') || !old_file.contains(line)));
    for bench in [bench.restart().await] {
        assert_eq!(bench.unseal(&before).await.unwrap().body, b"1");
        assert_eq!(bench.unseal(&after).await.unwrap().body, b"2");
        // With the previous key, as a thief would have it.
        bench.write_key_file(&old_file);
        let bench = bench.restart().await;
        for sealed in [&before, &after] {
            assert!(matches!(bench.unseal(sealed).await, Err(VaultError::KeyMissing(_))));
        }
    }
}

#[tokio::test]
async fn a_rotation_that_was_cut_short_is_finished_by_the_next_start() {
    let bench = Bench::new().await;
    let (sealed, old) = (bench.seal(b"1", NOW).await, bench.key_file());
    // Written but not yet in use: the new key first, then the previous one.
    bench.write_key_file(&format!("{}\n{old}", "0f".repeat(32)));
    let bench = bench.restart().await;
    bench.write_key_file(&"0f".repeat(32));
    let bench = bench.restart().await;
    assert_eq!(bench.unseal(&sealed).await.unwrap().body, b"1");
}

#[tokio::test]
async fn a_missing_key_is_named_and_what_needs_it_is_not_given_up() {
    let bench = Bench::new().await;
    let (sealed, file) = (bench.seal(b"1", NOW).await, bench.key_file());
    let named = hex_name(&bench.store.data_keys().await.unwrap()[0].wrapping_key);
    let other = "0f".repeat(32);
    bench.write_key_file(&other);
    let bench = bench.restart().await;
    let error = bench.unseal(&sealed).await.unwrap_err().to_string();
    assert!(error.contains(&named) && error.contains("restart"), "{error}");
    let rotation = bench.vault.rotate(&*bench.store).await.unwrap();
    assert_eq!((rotation.data_keys, rotation.unreadable), (0, 1));
    bench.write_key_file(&(bench.key_file() + &file));
    let bench = bench.restart().await;
    assert_eq!(bench.unseal(&sealed).await.unwrap().body, b"1");
}

#[tokio::test]
async fn what_redaction_has_made_longer_comes_back_as_well() {
    let bench = Bench::new().await;
    let length = MAX_PAYLOAD_BYTES as usize - 3;
    let list = format!("[1{}]", ",1".repeat(length / 2 - 2));
    let sent = CallPayload { media_type: "application/json".to_owned(), ..payload(list.as_bytes()) };
    let redact = vec!["/*".parse().unwrap()];
    let payloads = vec![(7, binding("1"), sent)];
    let sealed = bench.vault.seal(&*bench.store, NOW, payloads, redact).await.unwrap().remove(&7).unwrap();
    assert_eq!(bench.unseal(&sealed).await.unwrap().body.len(), list.len() / 2 * 6 + 1);
}

#[tokio::test]
async fn a_damaged_data_key_stops_neither_a_rotation_nor_a_start() {
    let bench = Bench::new().await;
    let lost = bench.seal(b"1", NOW).await;
    let mut damaged = bench.store.data_keys().await.unwrap().remove(0);
    damaged.sealed[20] ^= 1;
    bench.store.reseal_data_keys(&[damaged]).await.unwrap();
    let rotation = bench.vault.rotate(&*bench.store).await.unwrap();
    assert_eq!((rotation.data_keys, rotation.unreadable), (0, 1));
    let bench = bench.restart().await;
    assert!(bench.unseal(&lost).await.is_err());
    let kept = bench.seal(b"2", NOW).await;
    assert_eq!(bench.unseal(&kept).await.unwrap().body, b"2");
}
