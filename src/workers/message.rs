//! Messages between the VMs of one Envoy. Each VM has its own queue.

use serde::{Deserialize, Serialize};

use super::entry_key::EntryKey;
use super::shared_data::reject;
use crate::host;

/// What messages are sealed for.
const CONTEXT: &str = "message";

/// A message from one VM to another, or to itself.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// A new snapshot version is in shared data. `segments` that changed; `None` for all.
    SnapshotChanged { from: u64, to: u64, segments: Option<Vec<u32>> },
    /// To the leader: a VM now enforces another version.
    Enforced,
    /// To itself: continue work that was split into steps.
    Continue,
    /// To itself: a full batch of audit records is ready.
    Flush,
}

/// Sends to the VM that reads this queue. If it is gone, its successor starts from shared data.
pub(crate) fn send(queue: u32, message: &Message, key: EntryKey) {
    if let Ok(bytes) = postcard::to_allocvec(message) {
        host::enqueue(queue, &key.seal(CONTEXT, bytes));
    }
}

/// Takes all messages from a queue.
pub(crate) fn receive(queue: u32, key: EntryKey) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(bytes) = host::dequeue(queue) {
        match key.open(CONTEXT, bytes) {
            Some(bytes) => messages.extend(postcard::from_bytes(&bytes)),
            None => reject(CONTEXT),
        }
    }
    messages
}
