//! Tokens, sessions, the admin log, the installation and creates that are repeated.

use omniflow_domain::admin_event::{AdminEvent, NewAdminEvent, PrincipalRef, Subject};
use omniflow_domain::session::Session;
use omniflow_domain::token::Token;
use omniflow_policy::key::KeyPrefix;
use serde_json::Value;

use super::{Columns, from_json, parsed};
use crate::error::{Result, StoreError};
use crate::idempotency::RecordedRequest;
use crate::installation::Installation;

/// A token. Columns: id, name, role, gateways, digest, `created_by`, `created_at`, `expires_at`.
pub fn token<B>(row: &impl Columns<B>) -> Result<Token> {
    let gateways: &str = row.column(3)?;
    let pattern = |pattern| parsed(pattern, "the gateways of a token");
    Ok(Token {
        id: row.column(0)?,
        name: parsed(row.column(1)?, "the name of a token")?,
        role: parsed(row.column(2)?, "a role")?,
        gateways: gateways.split_ascii_whitespace().map(pattern).collect::<Result<_>>()?,
        digest: row.column(4)?,
        created_by: row.column(5)?,
        created_at: row.column(6)?,
        expires_at: row.column(7)?,
    })
}

/// A session. Columns: digest, token, `created_at`, `seen_at`.
pub fn session<B>(row: &impl Columns<B>) -> Result<Session> {
    Ok(Session {
        digest: row.column(0)?,
        token_id: row.column(1)?,
        created_at: row.column(2)?,
        seen_at: row.column(3)?,
    })
}

/// An entry of the admin log. Columns: id, time, id and name of the principal, action, id and name of the subject, the state
/// before and after.
pub fn admin_event<B>(row: &impl Columns<B>) -> Result<AdminEvent> {
    Ok(AdminEvent {
        id: row.column(0)?,
        noted: NewAdminEvent {
            time: row.column(1)?,
            principal: PrincipalRef { id: row.column(2)?, name: row.column(3)? },
            action: parsed(row.column(4)?, "an action")?,
            subject: Subject { id: row.column(5)?, name: row.column(6)? },
            before: state(row.column(7)?)?,
            after: state(row.column(8)?)?,
        },
    })
}

fn state(text: Option<&str>) -> Result<Option<Value>> {
    text.map(|text| from_json(text, "an event")).transpose()
}

/// The installation. Columns: id, key prefix, version of the snapshot, `created_at`, `published_at`.
pub fn installation<B>(row: &impl Columns<B>) -> Result<Installation> {
    Ok(Installation {
        id: row.column(0)?,
        key_prefix: KeyPrefix::parse(row.column(1)?).map_err(|_| StoreError::Corrupt("a key prefix"))?,
        snapshot_version: row.column(2)?,
        created_at: row.column(3)?,
        published_at: row.column(4)?,
    })
}

/// A create with an idempotency key. Columns: digest of the request, what it created.
pub fn recorded_request<B>(row: &impl Columns<B>) -> Result<RecordedRequest> {
    let created = from_json(row.column(1)?, "what a request created")?;
    Ok(RecordedRequest { request: row.column(0)?, created })
}
