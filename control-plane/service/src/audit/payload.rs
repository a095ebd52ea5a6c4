//! The arguments of a call, and the rotation of the key that encrypts them.

use std::sync::Arc;

use omniflow_domain::admin_event::{Action, NewAdminEvent, Subject};
use omniflow_domain::error::Error;
use omniflow_domain::principal::Principal;
use omniflow_policy::payload::CallPayload;
use omniflow_policy::time::UnixMillis;
use serde_json::json;

use super::RequestLog;
use crate::authentication::check_token;
use crate::run_to_completion;
use crate::vault::{Binding, hex_name};

/// The decrypted arguments of a call.
pub struct ReadPayload {
    /// The number of the call's record.
    pub record: i64,
    /// The arguments.
    pub payload: CallPayload,
    /// When they are purged.
    pub kept_until: UnixMillis,
}

/// The outcome of a rotation.
pub struct RotatedPayloadKey {
    /// The name of the new key.
    pub wrapping_key: String,
    /// Number of data keys that were encrypted with it.
    pub data_keys: usize,
    /// Number of data keys that cannot be decrypted.
    pub unreadable: usize,
}

// === impl RequestLog ===

impl RequestLog {
    /// Reads the arguments of a call. The admin log records the principal.
    pub async fn read_payload(
        self: &Arc<Self>,
        principal: &Principal,
        id: &str,
    ) -> Result<ReadPayload, Error> {
        let store = &*self.store;
        let entry = self.show(id).await?;
        let id = entry.id;
        let nothing_kept =
            || Error::not_found("The arguments of this call were not stored, or have been purged.");
        let sealed = store.payload(id).await?.ok_or_else(nothing_kept)?;
        let argument_hash = entry.argument_hash.ok_or_else(nothing_kept)?;
        let binding = Binding { argument_hash, request_id: entry.request_id };
        let payload = self.vault.unseal(store, &binding, &sealed).await?;
        let kept_until = self.payload_end(entry.time);
        // The event is committed before the arguments are returned.
        let event = NewAdminEvent {
            time: self.clock.now(),
            principal: principal.reference(),
            action: Action::PayloadRead,
            // The key's, so that the event is part of the key's history.
            subject: match entry.key {
                Some(key) => Subject { id: key.id.to_string(), name: key.name },
                None => Subject { id: id.to_string(), name: String::new() },
            },
            before: None,
            after: Some(json!({"record_id": id.to_string()})),
        };
        let log = Arc::clone(self);
        run_to_completion(async move {
            log.record_admin_event(&event).await?;
            Ok(ReadPayload { record: id, payload, kept_until })
        })
        .await
    }

    /// Generates a new key for encrypting arguments, and encrypts all data keys with it.
    pub async fn rotate_payload_key(
        self: &Arc<Self>,
        principal: &Principal,
    ) -> Result<RotatedPayloadKey, Error> {
        let (log, principal) = (Arc::clone(self), principal.clone());
        run_to_completion(async move { log.reseal(&principal).await }).await
    }

    /// Rotates within the transaction of its event: until that ends, the token that requests it cannot be revoked. The
    /// keys themselves are in a file and in the request log, which a failed commit does not undo. Other admin
    /// changes wait meanwhile, as they do for each other.
    async fn reseal(&self, principal: &Principal) -> Result<RotatedPayloadKey, Error> {
        let now = self.clock.now();
        let mut transaction = self.store.begin().await?;
        check_token(&mut *transaction, principal.id, now).await?;
        let rotation = self.vault.rotate(&*self.store).await?;
        let (data_keys, unreadable) = (rotation.data_keys, rotation.unreadable);
        let wrapping_key = hex_name(&rotation.wrapping_key);
        let event = NewAdminEvent {
            time: now,
            principal: principal.reference(),
            action: Action::PayloadKeyRotated,
            subject: Subject { id: wrapping_key.clone(), name: "payload key".to_owned() },
            before: None,
            after: Some(json!({"data_keys": data_keys, "unreadable": unreadable})),
        };
        transaction.insert_admin_event(&event).await?;
        transaction.commit().await?;
        Ok(RotatedPayloadKey { wrapping_key, data_keys, unreadable })
    }

    async fn record_admin_event(&self, event: &NewAdminEvent) -> Result<(), Error> {
        let mut transaction = self.store.begin().await?;
        transaction.insert_admin_event(event).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// When the arguments of a call that began at `began` are purged.
    fn payload_end(&self, began: UnixMillis) -> UnixMillis {
        let kept = u64::try_from(self.payload_retention.as_millis()).unwrap_or(u64::MAX);
        UnixMillis(began.0.saturating_add(kept))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use omniflow_domain::admin_event::AdminLogFilter;
    use omniflow_domain::clock::{Clock, Entropy};
    use omniflow_domain::error::ErrorCode;
    use omniflow_domain::token::{Role, Token};
    use omniflow_policy::digest::Digest;
    use omniflow_store::Store;
    use omniflow_store_sqlite::SqliteStore;
    use uuid::Uuid;

    use super::*;
    use crate::notifications::Notifications;
    use crate::vault::Vault;

    #[tokio::test]
    async fn only_a_valid_token_rotates_the_payload_key() {
        let folder = tempfile::tempdir().unwrap();
        let key_file = folder.path().join("payload-key");
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&folder.path().join("data")).await.unwrap());
        let vault = Vault::open(&key_file, &*store, Entropy::system()).await.unwrap();
        let clock = Clock::from_fn(|| UnixMillis(1_000));
        let log = Arc::new(RequestLog::new(
            Arc::clone(&store),
            Arc::new(vault),
            Notifications::default(),
            clock,
            Duration::from_secs(60),
        ));
        let token = Token {
            id: Uuid::from_u128(7),
            name: "owner".parse().unwrap(),
            role: Role::Owner,
            gateways: Vec::new(),
            digest: Digest::of(b"owner"),
            created_by: "first start".to_owned(),
            created_at: UnixMillis(0),
            expires_at: None,
        };
        let before = fs::read_to_string(&key_file).unwrap();
        let principal = Principal::from(token.clone());

        // As if the token was revoked after the request was authenticated.
        let refused = log.rotate_payload_key(&principal).await;
        assert_eq!(refused.err().map(|error| error.code()), Some(ErrorCode::Unauthenticated));
        assert_eq!(fs::read_to_string(&key_file).unwrap(), before);

        let mut transaction = store.begin().await.unwrap();
        transaction.insert_token(&token).await.unwrap();
        transaction.commit().await.unwrap();
        let rotated = log.rotate_payload_key(&principal).await.unwrap();
        assert_ne!(fs::read_to_string(&key_file).unwrap(), before);
        let events = store.admin_events(&AdminLogFilter::default(), None, 10).await.unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].noted.subject.id, rotated.wrapping_key);
    }
}
