//! Counters of the requests of gateways: polls and refusals, in all and by token.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::gateway::RequestCounts;
use omniflow_domain::token::Token;
use uuid::Uuid;

use super::Fleet;

/// The codes of refusals that are counted.
const CODES: [ErrorCode; 4] = [
    ErrorCode::GatewayNotPermitted,
    ErrorCode::GatewayOfOtherToken,
    ErrorCode::TooManyGateways,
    ErrorCode::VersionNotPublished,
];

/// Requests of gateways since the process started.
#[derive(Debug, Default)]
pub(super) struct RequestCounters {
    polls: AtomicU64,
    refusals: [AtomicU64; CODES.len()],
    /// By the identifier of the token. Only valid tokens are counted.
    by_token: Mutex<HashMap<Uuid, RequestCounts>>,
}

// === impl Fleet ===

impl Fleet {
    /// Counts a poll with a token.
    pub(crate) fn count_poll(&self, token: &Token) {
        self.requests.polls.fetch_add(1, Ordering::Relaxed);
        self.requests.count(token.id, |counts| counts.polls += 1);
    }

    /// Polls since the process started.
    pub(crate) fn polls(&self) -> u64 {
        self.requests.polls.load(Ordering::Relaxed)
    }

    /// Refused requests since the process started, by the code of the problem.
    pub(crate) fn refusals(&self) -> [(&'static str, u64); CODES.len()] {
        std::array::from_fn(|n| {
            let count = self.requests.refusals.get(n).map_or(0, |count| count.load(Ordering::Relaxed));
            (CODES.get(n).map_or("", |code| code.as_str()), count)
        })
    }

    /// Requests with a token since the process started.
    pub(crate) fn requests_of(&self, token: Uuid) -> RequestCounts {
        self.requests.by_token().get(&token).copied().unwrap_or_default()
    }

    /// Counts the refusal of a request with a token, and returns it.
    pub(super) fn refuse(&self, token: &Token, code: ErrorCode, detail: String) -> Error {
        let count = CODES.iter().position(|counted| *counted == code);
        if let Some(count) = count.and_then(|count| self.requests.refusals.get(count)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.requests.count(token.id, |counts| counts.refused += 1);
        Error::new(code, detail)
    }
}

// === impl RequestCounters ===

impl RequestCounters {
    fn count(&self, token: Uuid, add: impl FnOnce(&mut RequestCounts)) {
        add(self.by_token().entry(token).or_default());
    }

    fn by_token(&self) -> MutexGuard<'_, HashMap<Uuid, RequestCounts>> {
        self.by_token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
