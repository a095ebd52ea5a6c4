//! Idempotent creation: a request whose response was lost can be sent again without creating anything twice.
//!
//! The success of an attempt is stored for a day. Its result contains a secret, which is never stored, so the result is
//! kept only in memory, for ten minutes: as long as clients and proxies retry automatically. After that, a repeated
//! attempt is refused with a reference to the created object.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use omniflow_policy::time::UnixMillis;

use crate::authentication::check_token;
use omniflow_domain::error::{Error, ErrorCode, Facts};
use omniflow_domain::idempotency::Created;
pub use omniflow_store::IdempotentRequest;
use omniflow_store::Transaction;

/// How long an attempt is remembered, in milliseconds: a day.
const REMEMBERED_MS: u64 = 24 * 3_600_000;
/// How long its result is kept in memory, in milliseconds: longer than any automatic retry takes.
const KEPT_MS: u64 = 10 * 60_000;
/// Maximum number of results that are kept, and of their bytes. Most take a kilobyte; the oldest is evicted first.
const MAX_KEPT: usize = 1_024;
const MAX_KEPT_BYTES: usize = 16 * 1024 * 1024;

/// A result that can be returned again. Secrets in it must be wiped when it is dropped.
pub(crate) trait Replayable: Clone + Send + Sync + 'static {
    /// Its approximate size in memory, in bytes.
    fn retained_bytes(&self) -> usize;
}

/// The result of a request that creates something.
#[derive(Clone)]
pub struct Idempotent<T> {
    /// The result, the same each time.
    pub value: T,
    /// Whether this is the result of an earlier attempt, so that this one changed nothing.
    pub replayed: bool,
}

/// The results of the last ten minutes, which are stored nowhere else.
#[derive(Default)]
pub struct IdempotencyCache(Mutex<HashMap<IdempotentRequest, Entry>>);

struct Entry {
    kept_at: UnixMillis,
    bytes: usize,
    result: Box<dyn Any + Send + Sync>,
}

/// Records the objects that an attempt creates, in the transaction that creates them.
pub(crate) async fn record(
    transaction: &mut dyn Transaction,
    attempt: Option<&IdempotentRequest>,
    created: &Created,
    now: UnixMillis,
) -> Result<(), Error> {
    match attempt {
        Some(attempt) => Ok(transaction.record_request(attempt, created, now, remembered_since(now)).await?),
        None => Ok(()),
    }
}

fn remembered_since(now: UnixMillis) -> UnixMillis {
    UnixMillis(now.0.saturating_sub(REMEMBERED_MS))
}

fn reused() -> Error {
    Error::new(
        ErrorCode::IdempotencyKeyReused,
        "This idempotency key was used for a different request. Use a new idempotency key for each request.",
    )
}

// === impl Idempotent ===

impl<T> Idempotent<T> {
    /// A result of this request itself.
    pub(crate) fn first(value: T) -> Self {
        Self { value, replayed: false }
    }
}

// === impl IdempotencyCache ===

impl IdempotencyCache {
    /// The result of an earlier attempt with the same key; `None` if there is none. The caller holds the publisher's
    /// turn, or the turn of token creation, so simultaneous attempts run one after the other.
    ///
    /// # Errors
    ///
    /// `unauthenticated` if the principal's token was revoked or has expired since the request arrived: the result may
    /// contain a secret. `idempotency_key_reused`; `already_created` if the result is no longer kept.
    pub(crate) async fn replayed<T: Replayable>(
        &self,
        transaction: &mut dyn Transaction,
        attempt: Option<&IdempotentRequest>,
        now: UnixMillis,
    ) -> Result<Option<Idempotent<T>>, Error> {
        let Some(attempt) = attempt else { return Ok(None) };
        let Some(done) = transaction.recorded_request(attempt, remembered_since(now)).await? else {
            return Ok(None);
        };
        check_token(transaction, attempt.token, now).await?;
        if done.request != attempt.request {
            return Err(reused());
        }
        let value = self.get(attempt, now)?.ok_or_else(|| {
            let detail = format!(
                "An earlier request with the same idempotency key succeeded and created {}. Its result is no longer available, \
                 and its secret is not stored.",
                done.created
            );
            Error::new(ErrorCode::AlreadyCreated, detail).about(Facts::Created(done.created))
        })?;
        Ok(Some(Idempotent { value, replayed: true }))
    }

    /// Keeps the result of a first attempt for retries.
    pub(crate) fn keep<T: Replayable>(
        &self,
        attempt: Option<IdempotentRequest>,
        value: T,
        now: UnixMillis,
    ) -> Idempotent<T> {
        if let Some(attempt) = attempt {
            let (bytes, result) = (value.retained_bytes(), Box::new(value.clone()));
            self.insert(attempt, Entry { kept_at: now, bytes, result });
        }
        Idempotent::first(value)
    }

    /// A result of another type belongs to another request.
    fn get<T: Replayable>(&self, attempt: &IdempotentRequest, now: UnixMillis) -> Result<Option<T>, Error> {
        let mut kept = self.lock();
        remove_old(&mut kept, now);
        let Some(entry) = kept.get(attempt) else { return Ok(None) };
        entry.result.downcast_ref::<T>().cloned().map(Some).ok_or_else(reused)
    }

    fn insert(&self, attempt: IdempotentRequest, entry: Entry) {
        let mut kept = self.lock();
        remove_old(&mut kept, entry.kept_at);
        let bytes = |kept: &HashMap<_, Entry>| -> usize { kept.values().map(|entry| entry.bytes).sum() };
        while kept.len() >= MAX_KEPT || bytes(&kept) + entry.bytes > MAX_KEPT_BYTES {
            let oldest = kept.iter().min_by_key(|(_, entry)| entry.kept_at.0).map(|(attempt, _)| *attempt);
            // A single result that exceeds the maximum is kept anyway, because its principal may retry.
            let Some(oldest) = oldest else { break };
            kept.remove(&oldest);
        }
        kept.insert(attempt, entry);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IdempotentRequest, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for IdempotencyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdempotencyCache")
    }
}

/// The absolute difference: a clock that is set back must not keep secrets for longer.
fn remove_old(kept: &mut HashMap<IdempotentRequest, Entry>, now: UnixMillis) {
    kept.retain(|_, entry| now.0.abs_diff(entry.kept_at.0) < KEPT_MS);
}

#[cfg(test)]
mod tests {
    use omniflow_domain::token::{Role, Token};
    use omniflow_policy::digest::Digest;
    use omniflow_store::Store;
    use omniflow_store_sqlite::SqliteStore;
    use uuid::Uuid;

    use super::*;

    #[derive(Clone)]
    struct OfSize(usize);

    #[derive(Clone)]
    struct Other;

    impl Replayable for OfSize {
        fn retained_bytes(&self) -> usize {
            self.0
        }
    }

    impl Replayable for Other {
        fn retained_bytes(&self) -> usize {
            0
        }
    }

    fn attempt(number: u32) -> IdempotentRequest {
        IdempotentRequest {
            token: Uuid::nil(),
            key: Digest::of(&number.to_be_bytes()),
            request: Digest::of(b""),
        }
    }

    #[test]
    fn number_and_bytes_of_results_are_bounded() {
        let cache = IdempotencyCache::default();
        let is_kept = |number| cache.get::<OfSize>(&attempt(number), UnixMillis(1)).unwrap().is_some();
        for number in 0..=MAX_KEPT as u32 {
            cache.keep(Some(attempt(number)), OfSize(0), UnixMillis(u64::from(number)));
        }
        assert_eq!(cache.lock().len(), MAX_KEPT);
        assert!(!is_kept(0));
        assert!(is_kept(1));
        for number in 5_000..5_003 {
            cache.keep(Some(attempt(number)), OfSize(MAX_KEPT_BYTES / 2), UnixMillis(u64::from(number)));
        }
        let kept: Vec<u64> = cache.lock().values().map(|entry| entry.kept_at.0).collect();
        assert_eq!(kept.len(), 2, "{kept:?}");
    }

    #[test]
    fn result_of_another_request_is_not_replayed() {
        let cache = IdempotencyCache::default();
        cache.keep(Some(attempt(1)), Other, UnixMillis(0));
        assert!(matches!(cache.get::<Other>(&attempt(1), UnixMillis(1)), Ok(Some(Other))));
        let refused = cache.get::<OfSize>(&attempt(1), UnixMillis(1)).err().unwrap();
        assert_eq!(refused.code(), ErrorCode::IdempotencyKeyReused);
        assert!(cache.get::<Other>(&attempt(1), UnixMillis(KEPT_MS)).unwrap().is_none());
    }

    #[tokio::test]
    async fn result_is_not_replayed_to_a_token_that_is_no_longer_valid() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        let cache = IdempotencyCache::default();
        let token = Token {
            id: Uuid::from_u128(7),
            name: "admin".parse().unwrap(),
            role: Role::Admin,
            gateways: Vec::new(),
            digest: Digest::of(b"admin"),
            created_by: "owner".to_owned(),
            created_at: UnixMillis(0),
            expires_at: Some(UnixMillis(1_000)),
        };
        let attempt = IdempotentRequest { token: token.id, ..attempt(1) };
        let mut transaction = store.begin().await.unwrap();
        transaction.insert_token(&token).await.unwrap();
        record(&mut *transaction, Some(&attempt), &Created::key(Uuid::nil()), UnixMillis(1)).await.unwrap();
        cache.keep(Some(attempt), Other, UnixMillis(1));

        let attempt = Some(&attempt);
        let again = cache.replayed::<Other>(&mut *transaction, attempt, UnixMillis(999)).await;
        assert!(again.unwrap().unwrap().replayed);
        let expired = cache.replayed::<Other>(&mut *transaction, attempt, UnixMillis(1_000)).await;
        assert_eq!(expired.err().map(|error| error.code()), Some(ErrorCode::Unauthenticated));
        transaction.delete_token(token.id).await.unwrap();
        let revoked = cache.replayed::<Other>(&mut *transaction, attempt, UnixMillis(999)).await;
        assert_eq!(revoked.err().map(|error| error.code()), Some(ErrorCode::Unauthenticated));
    }
}
