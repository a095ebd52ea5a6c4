//! Changes to keys as the admin log records them.

use omniflow_domain::event::{Action, NewEvent, Subject};
use omniflow_domain::event_state::{difference, key_state};
use omniflow_domain::key::Key;
use omniflow_domain::principal::Principal;
use omniflow_policy::time::UnixMillis;

/// The creation of a key.
pub(super) fn created(principal: &Principal, action: Action, key: &Key) -> NewEvent {
    NewEvent {
        time: key.created_at,
        actor: principal.actor(),
        action,
        subject: subject(key),
        before: None,
        after: Some(key_state(key)),
    }
}

/// A change to a key: the fields that differ.
pub(super) fn changed(
    principal: &Principal,
    action: Action,
    before: &Key,
    after: &Key,
    now: UnixMillis,
) -> NewEvent {
    let (old, new) = difference(key_state(before), key_state(after));
    NewEvent {
        time: now,
        actor: principal.actor(),
        action,
        subject: subject(after),
        before: Some(old),
        after: Some(new),
    }
}

fn subject(key: &Key) -> Subject {
    Subject { id: key.id.to_string(), name: key.name.to_string() }
}
