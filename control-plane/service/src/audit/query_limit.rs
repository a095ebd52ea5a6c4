//! A limit on the concurrent long queries of a token, so that one token cannot occupy all connections of the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use omniflow_domain::error::{Error, ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

/// Maximum number of concurrent queries of a token.
const MAX_QUERIES: usize = 2;
/// How long a query waits for its permit.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// Number of tokens at which those without a query are removed.
const MAX_IDLE: usize = 64;

/// Limits the long queries of each token.
#[derive(Debug, Default)]
pub(super) struct QueryLimit(Mutex<HashMap<Uuid, Arc<Semaphore>>>);

/// Permission to run a query. Dropping it lets the next query of the token start.
#[derive(Debug)]
pub struct QueryPermit {
    _permit: OwnedSemaphorePermit,
}

// === impl QueryLimit ===

impl QueryLimit {
    /// Waits until fewer than [`MAX_QUERIES`] queries of this token run.
    ///
    /// # Errors
    ///
    /// `busy` if that takes longer than 10 seconds.
    pub(super) async fn acquire(&self, token: Uuid) -> Result<QueryPermit, Error> {
        let permit = tokio::time::timeout(MAX_WAIT, self.queries(token).acquire_owned()).await;
        match permit {
            Ok(Ok(permit)) => Ok(QueryPermit { _permit: permit }),
            Ok(Err(_)) => Err(Error::internal()),
            Err(_) => Err(Error::new(
                ErrorCode::Busy,
                format!(
                    "This token is already running {MAX_QUERIES} queries, which is the maximum, and none of them finished within {} seconds. Retry later, or use another token.",
                    MAX_WAIT.as_secs()
                ),
            )),
        }
    }

    fn queries(&self, token: Uuid) -> Arc<Semaphore> {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MAX_IDLE {
            // A running or waiting query holds another reference.
            tokens.retain(|_, queries| Arc::strong_count(queries) > 1);
        }
        Arc::clone(tokens.entry(token).or_insert_with(|| Arc::new(Semaphore::new(MAX_QUERIES))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_waits_for_a_permit_while_its_queries_run() {
        let limit = QueryLimit::default();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut permits = Vec::new();
        for _ in 0..MAX_QUERIES {
            permits.push(limit.acquire(one).await.unwrap());
        }
        let refused = limit.acquire(one).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::Busy);
        limit.acquire(other).await.unwrap();
        permits.pop();
        limit.acquire(one).await.unwrap();
    }

    #[tokio::test]
    async fn tokens_without_a_query_are_forgotten() {
        let limit = QueryLimit::default();
        let permit = limit.acquire(Uuid::from_u128(1)).await.unwrap();
        for token in 2..1_000 {
            limit.acquire(Uuid::from_u128(token)).await.unwrap();
        }
        let tokens = limit.0.lock().unwrap();
        assert!(tokens.len() <= MAX_IDLE && tokens.contains_key(&Uuid::from_u128(1)), "{}", tokens.len());
        drop(permit);
    }
}
