//! Starts a session with a token.

use std::net::IpAddr;

use omniflow_policy::digest::Digest;

use super::use_cases::{IDENTIFIER_BYTES, Sessions, digest, may_sign_in};
use crate::authentication::Rejection;
use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::session::{MAX_SESSIONS, Session};
use omniflow_domain::token::Token;

/// A request to sign in.
pub struct SignIn<'a> {
    /// The token, as it was typed.
    pub token: &'a str,
    /// The session that the browser had before. It ends.
    pub replaces: Option<&'a Session>,
    /// The address of the request, against which a failure counts.
    pub peer: Option<IpAddr>,
}

/// A session that has started.
pub struct StartedSession {
    /// The identifier that the browser keeps. It is stored nowhere else.
    pub identifier: String,
}

/// Why a token cannot sign in. Only the holder of a token learns that it has expired or belongs to a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignInRejection {
    /// Nothing was typed.
    NoToken,
    /// The token never existed or was revoked.
    UnknownToken,
    /// The token has expired.
    ExpiredToken,
    /// The token is for gateways.
    GatewayToken,
    /// The token was revoked during the sign-in.
    RevokedMeanwhile,
    /// Too many attempts from this address. A valid token is accepted nevertheless.
    TooManyAttempts(Error),
}

// === impl Sessions ===

impl Sessions {
    /// Starts a session, unless the token does not sign in.
    ///
    /// # Errors
    ///
    /// `internal` if the database or the source of randomness fails.
    pub async fn sign_in(
        &self,
        request: SignIn<'_>,
    ) -> Result<Result<StartedSession, SignInRejection>, Error> {
        if request.token.is_empty() {
            return Ok(Err(SignInRejection::NoToken));
        }
        let digest = Digest::of(request.token.as_bytes());
        let token = match self.authentication.authenticate(digest).await? {
            Ok(token) => token,
            Err(rejection) => return Ok(Err(self.reject(rejection, request.peer))),
        };
        if !may_sign_in(token.role) {
            return Ok(Err(SignInRejection::GatewayToken));
        }
        let started = self.start(&token, &request).await?;
        Ok(started.ok_or(SignInRejection::RevokedMeanwhile))
    }

    fn reject(&self, rejection: Rejection, peer: Option<IpAddr>) -> SignInRejection {
        let error = self.authentication.reject(rejection, peer, false);
        match rejection {
            _ if error.code() == ErrorCode::TooManyAttempts => SignInRejection::TooManyAttempts(error),
            Rejection::ExpiredToken => SignInRejection::ExpiredToken,
            _ => SignInRejection::UnknownToken,
        }
    }

    /// Stores a new session; `None` if the token has just been revoked.
    async fn start(&self, token: &Token, request: &SignIn<'_>) -> Result<Option<StartedSession>, Error> {
        let now = self.clock.now();
        let bytes = self.entropy.compose(|random| [0; IDENTIFIER_BYTES].map(|_: u8| random()))?;
        let identifier = hex::encode(bytes);
        let session =
            Session { digest: digest(&identifier), token_id: token.id, created_at: now, seen_at: now };
        let mut transaction = self.store.begin().await?;
        transaction.purge_sessions(Session::over_since(now)).await?;
        if let Some(before) = request.replaces {
            transaction.delete_session(before.digest).await?;
        }
        if !transaction.insert_session(&session, MAX_SESSIONS).await? {
            return Ok(None);
        }
        transaction.commit().await?;
        tracing::info!(token = %token.id, name = token.name.as_str(), peer = ?request.peer, "signed in");
        Ok(Some(StartedSession { identifier }))
    }
}
