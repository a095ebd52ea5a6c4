//! What a draft would change for recorded calls.

use omniflow_policy::denial::Outcome;
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use crate::error::Error;

/// The effects that a draft would have had on recorded calls.
#[derive(Clone, Debug)]
pub struct ReplayReport {
    /// The version that the draft was compared with.
    pub policy_version: u64,
    /// The errors with which publishing the draft would be refused at the moment.
    pub blocked_by: Vec<Error>,
    /// When the oldest replayed call was made; `None` if there are no calls.
    pub oldest: Option<UnixMillis>,
    /// Whether all calls in the range were replayed; if not, the oldest ones were left out.
    pub complete: bool,
    /// Number of calls of each kind.
    pub counts: ReplayCounts,
    /// The calls with a different outcome, in groups, largest first.
    pub changes: Vec<ReplayChange>,
    /// Whether there are more groups.
    pub more_changes: bool,
}

/// Number of calls of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayCounts {
    /// All calls.
    pub calls: u64,
    /// Allowed by both policies.
    pub still_allowed: u64,
    /// Refused by both, perhaps for different reasons.
    pub still_refused: u64,
    /// Allowed by the current policy, refused by the draft.
    pub newly_refused: u64,
    /// Refused by the current policy, allowed by the draft, limits aside.
    pub newly_allowed: u64,
    /// Decided before the policy is consulted: no valid key, or not from an allowed address.
    pub unaffected: u64,
    /// Recorded with too little detail: the path was cut, what was redacted in it could decide its route, or the key no longer exists.
    pub not_replayable: u64,
    /// Keys whose calls would be refused.
    pub keys_newly_refused: usize,
    /// Keys whose calls would be allowed.
    pub keys_newly_allowed: usize,
}

/// Calls with the same key, method and endpoint whose outcome would change in the same way.
#[derive(Clone, Debug)]
pub struct ReplayChange {
    /// The key.
    pub key_id: Uuid,
    /// Its name; `None` if the key no longer exists.
    pub key_name: Option<String>,
    /// The method.
    pub method: String,
    /// The route of the draft, or else the recorded one.
    pub endpoint: Option<String>,
    /// The outcome under the current policy.
    pub before: Outcome,
    /// The outcome under the draft.
    pub after: Outcome,
    /// Number of calls.
    pub calls: u64,
    /// The identifier of the newest of them in the audit log.
    pub newest_record: i64,
    /// The path of the newest of them.
    pub newest_path: String,
}
