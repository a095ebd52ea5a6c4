//! The wall clock and the source of random bytes, passed in so that tests can control both.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

/// Reads the wall clock.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> UnixMillis + Send + Sync>);

/// Fills buffers with independent, uniformly distributed, unpredictable bytes.
#[derive(Clone)]
pub struct Entropy(Arc<Fill>);

type Fill = dyn Fn(&mut [u8]) -> Result<(), EntropyUnavailable> + Send + Sync;

/// The operating system returned no random bytes, so no secret can be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system returned no random bytes")]
pub struct EntropyUnavailable;

// === impl Clock ===

impl Clock {
    /// The clock of the operating system.
    #[expect(clippy::disallowed_methods, reason = "the only place that reads the wall clock")]
    pub fn system() -> Self {
        Self::from_fn(|| {
            let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            UnixMillis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
        })
    }

    /// A clock that is read by calling `read`.
    pub fn from_fn(read: impl Fn() -> UnixMillis + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The current time.
    pub fn now(&self) -> UnixMillis {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

// === impl Entropy ===

impl Entropy {
    /// The random bytes of the operating system.
    #[expect(clippy::disallowed_methods, reason = "the only place that obtains random bytes")]
    pub fn system() -> Self {
        Self::from_fn(|buffer| getrandom::fill(buffer).map_err(|_| EntropyUnavailable))
    }

    /// A source that is read by calling `fill`.
    pub fn from_fn(
        fill: impl Fn(&mut [u8]) -> Result<(), EntropyUnavailable> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(fill))
    }

    /// Runs `compose` with a source of single random bytes, which is unlimited.
    pub fn compose<T>(
        &self,
        compose: impl FnOnce(&mut dyn FnMut() -> u8) -> T,
    ) -> Result<T, EntropyUnavailable> {
        let mut buffer = zeroize::Zeroizing::new([0u8; 64]);
        let mut used = buffer.len();
        let mut state = Ok(());
        let mut next = || {
            if used == buffer.len() {
                state = state.and_then(|()| (self.0)(buffer.as_mut_slice()));
                used = 0;
            }
            let byte = buffer.get(used).copied().unwrap_or_default();
            used += 1;
            byte
        };
        let composed = compose(&mut next);
        state.map(|()| composed)
    }

    /// A new UUID, version 7: it sorts by `now`.
    pub fn uuid(&self, now: UnixMillis) -> Result<Uuid, EntropyUnavailable> {
        let mut random = [0u8; 10];
        (self.0)(&mut random)?;
        Ok(uuid::Builder::from_unix_timestamp_millis(now.0, &random).into_uuid())
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_source_gives_no_secret() {
        let entropy = Entropy::from_fn(|_| Err(EntropyUnavailable));
        assert_eq!(entropy.compose(|next| next()), Err(EntropyUnavailable));
        assert_eq!(entropy.uuid(UnixMillis(1)), Err(EntropyUnavailable));
    }

    #[test]
    fn many_bytes_come_from_many_fills() {
        let entropy = Entropy::from_fn(|buffer| {
            for (index, byte) in buffer.iter_mut().enumerate() {
                *byte = index as u8;
            }
            Ok(())
        });
        let bytes = entropy.compose(|next| (0..130).map(|_| next()).collect::<Vec<u8>>()).unwrap();
        assert_eq!((bytes[0], bytes[63], bytes[64], bytes[129]), (0, 63, 0, 1));
    }

    #[test]
    fn identifiers_sort_by_time() {
        let entropy = Entropy::system();
        let early = entropy.uuid(UnixMillis(1_000)).unwrap();
        let late = entropy.uuid(UnixMillis(1_001)).unwrap();
        assert!(early < late);
        assert_eq!(early.get_version_num(), 7);
    }
}
