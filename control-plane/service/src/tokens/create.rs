//! Creates a token.

use std::sync::Arc;

use omniflow_policy::key::{Secret, compose_token};

use super::text::{CreateToken, TokenText};
use super::{Tokens, subject};
use crate::fields::check_future;
use crate::idempotency::{Idempotent, Replayable, record};
use crate::run_to_completion;
use omniflow_domain::admin_event::{Action, NewAdminEvent};
use omniflow_domain::admin_event_state::token_state;
use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::idempotency::Created;
use omniflow_domain::principal::Principal;
use omniflow_domain::token::Token;
use omniflow_store::IdempotentRequest;

/// A new token with its secret, which is stored nowhere.
#[derive(Clone)]
pub struct CreatedToken {
    /// The token.
    pub token: Token,
    /// The secret.
    pub secret: Secret,
}

// === impl Tokens ===

impl Tokens {
    /// Parses a request, and checks what needs no store.
    ///
    /// # Errors
    ///
    /// Every error, one for each field; there is at least one.
    pub fn parse(&self, text: &TokenText) -> Result<CreateToken, Vec<Error>> {
        text.parse(self.clock.now())
    }

    /// Creates a token, unless an earlier attempt has created it: then the result is the earlier one.
    ///
    /// # Errors
    ///
    /// `invalid_field`, `name_taken`; `already_created` if the secret of an earlier attempt is no longer in memory;
    /// `idempotency_key_reused`.
    pub async fn create(
        self: &Arc<Self>,
        principal: &Principal,
        request: CreateToken,
        attempt: Option<IdempotentRequest>,
    ) -> Result<Idempotent<CreatedToken>, Error> {
        let (tokens, principal) = (Arc::clone(self), principal.clone());
        run_to_completion(async move { tokens.insert(&principal, request, attempt).await }).await
    }

    async fn insert(
        &self,
        principal: &Principal,
        request: CreateToken,
        attempt: Option<IdempotentRequest>,
    ) -> Result<Idempotent<CreatedToken>, Error> {
        let _turn = self.turn.lock().await;
        let now = self.clock.now();
        let mut transaction = self.store.begin().await?;
        if let Some(earlier) = self.idempotency.replayed(&mut *transaction, attempt.as_ref(), now).await? {
            return Ok(earlier);
        }
        let secret = self.entropy.compose(|mut random| compose_token(&self.key_prefix, &mut random))?;
        let CreateToken { name, role, gateways, expires_at } = request;
        check_future(expires_at, now)?;
        let token = Token {
            id: self.entropy.uuid(now)?,
            name,
            role,
            gateways,
            digest: secret.digest(),
            created_by: principal.name.to_string(),
            created_at: now,
            expires_at,
        };
        if !transaction.insert_token(&token).await? {
            let detail = format!("A token named {} already exists. Choose another name.", token.name);
            return Err(Error::new(ErrorCode::NameTaken, detail));
        }
        record(&mut *transaction, attempt.as_ref(), &Created::token(token.id), now).await?;
        let event = NewAdminEvent {
            time: now,
            principal: principal.reference(),
            action: Action::TokenCreated,
            subject: subject(&token),
            before: None,
            after: Some(token_state(&token)),
        };
        transaction.insert_admin_event(&event).await?;
        transaction.commit().await?;
        let Token { id, name, role, created_by, .. } = &token;
        tracing::info!(token = %id, name = name.as_str(), %role, by = created_by, "token created");
        Ok(self.idempotency.keep(attempt, CreatedToken { token, secret }, now))
    }
}

// === impl CreatedToken ===

impl Replayable for CreatedToken {
    fn retained_bytes(&self) -> usize {
        let Token { name, created_by, gateways, .. } = &self.token;
        let patterns: usize = gateways.iter().map(|one| size_of_val(one) + one.as_str().len()).sum();
        patterns + size_of::<Self>() + name.as_str().len() + created_by.len() + self.secret.expose().len()
    }
}
