//! Changes to keys, for the admin log.

use omniflow_domain::admin_event::{Action, NewAdminEvent, Subject};
use omniflow_domain::admin_event_state::{difference, key_state};
use omniflow_domain::key::Key;
use omniflow_domain::principal::Principal;
use omniflow_policy::time::UnixMillis;

/// The creation of a key.
pub(super) fn created(principal: &Principal, action: Action, key: &Key) -> NewAdminEvent {
    NewAdminEvent {
        time: key.created_at,
        principal: principal.reference(),
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
) -> NewAdminEvent {
    let (old, new) = difference(key_state(before), key_state(after));
    NewAdminEvent {
        time: now,
        principal: principal.reference(),
        action,
        subject: subject(after),
        before: Some(old),
        after: Some(new),
    }
}

fn subject(key: &Key) -> Subject {
    Subject { id: key.id.to_string(), name: key.name.to_string() }
}
