//! The first start: makes the installation, its policy and the owner's token.

use std::io;
use std::path::{Path, PathBuf};

use omniflow_policy::key::{KeyPrefix, Secret, compose_token};
use omniflow_policy::policy::PolicyDocument;

use omniflow_domain::admin_event::{Action, NewAdminEvent, PrincipalRef, Subject};
use omniflow_domain::admin_event_state::token_state;
use omniflow_domain::clock::{Clock, Entropy, EntropyUnavailable};
use omniflow_domain::name::Name;
use omniflow_domain::policy::StoredPolicy;
use omniflow_domain::token::{Role, Token};
use omniflow_files::private;
use omniflow_store::{Installation, Store, StoreError};

/// The principal of a recovery in the admin log. It needs no token.
const RECOVERY: &str = "omf token recover";
/// The names that a recovered token may get.
const MAX_RECOVERED: usize = 100;

/// Who made what the first start makes.
const FIRST_START: &str = "first start";

/// Why the first start failed. Nothing is left of it; the next start is the first again.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The rows cannot be written.
    #[error(transparent)]
    Storage(#[from] StoreError),
    /// No token can be made.
    #[error(transparent)]
    Entropy(#[from] EntropyUnavailable),
    /// The owner's token cannot be written to its file.
    #[error("the owner's token cannot be written to {}: {source}", path.display())]
    TokenFile {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Why no owner token can be created in a data directory.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The databases hold no installation.
    #[error("the databases hold no installation: omf serve has never completed a start here")]
    NoInstallation,
    /// The row cannot be written.
    #[error(transparent)]
    Storage(#[from] StoreError),
    /// No token can be composed.
    #[error(transparent)]
    Entropy(#[from] EntropyUnavailable),
    /// Every name is taken.
    #[error("{MAX_RECOVERED} recovered tokens exist: revoke some of them first")]
    NoName,
}

/// Creates an owner token without a token that allows it: for whoever can write to the data directory and has lost all owner
/// tokens. The event of the admin log is part of the change.
pub(crate) async fn recover_owner(
    store: &dyn Store,
    clock: &Clock,
    entropy: &Entropy,
) -> Result<(Token, Secret), RecoveryError> {
    let installation = store.installation().await?.ok_or(RecoveryError::NoInstallation)?;
    let now = clock.now();
    let secret = entropy.compose(|mut random| compose_token(&installation.key_prefix, &mut random))?;
    let mut transaction = store.begin().await?;
    for number in 1..=MAX_RECOVERED {
        let Ok(name) = format!("recovered owner {number}").parse() else { break };
        let token = Token {
            id: entropy.uuid(now)?,
            name,
            role: Role::Owner,
            digest: secret.digest(),
            created_by: RECOVERY.to_owned(),
            created_at: now,
            expires_at: None,
        };
        if transaction.insert_token(&token).await? {
            let event = NewAdminEvent {
                time: now,
                principal: PrincipalRef { id: None, name: RECOVERY.to_owned() },
                action: Action::TokenCreated,
                subject: Subject { id: token.id.to_string(), name: token.name.to_string() },
                before: None,
                after: Some(token_state(&token)),
            };
            transaction.insert_admin_event(&event).await?;
            transaction.commit().await?;
            return Ok((token, secret));
        }
    }
    Err(RecoveryError::NoName)
}

/// The installation of this storage, made now if this is the first start.
///
/// Then `token_file` gets the owner's token, which is nowhere else: the database has its digest only.
pub(crate) async fn installation(
    store: &dyn Store,
    clock: &Clock,
    entropy: &Entropy,
    key_prefix: &KeyPrefix,
    token_file: &Path,
) -> Result<Installation, BootstrapError> {
    if let Some(installation) = store.installation().await? {
        return Ok(installation);
    }
    let now = clock.now();
    let installation = Installation {
        id: entropy.uuid(now)?,
        key_prefix: key_prefix.clone(),
        snapshot_version: now.0.max(1),
        published_at: now,
        created_at: now,
    };
    let policy = StoredPolicy {
        version: 1,
        document: PolicyDocument { key_prefix: key_prefix.clone(), ..PolicyDocument::default() },
        created_by: FIRST_START.to_owned(),
        created_at: now,
    };
    let secret = entropy.compose(|mut random| compose_token(key_prefix, &mut random))?;
    let token = Token {
        id: entropy.uuid(now)?,
        name: Name::owner(),
        role: Role::Owner,
        digest: secret.digest(),
        created_by: FIRST_START.to_owned(),
        created_at: now,
        expires_at: None,
    };
    let mut transaction = store.begin().await?;
    transaction.insert_installation(&installation).await?;
    transaction.insert_policy(&policy).await?;
    transaction.insert_token(&token).await?;
    let event = NewAdminEvent {
        time: now,
        principal: PrincipalRef { id: None, name: FIRST_START.to_owned() },
        action: Action::InstallationCreated,
        subject: Subject { id: installation.id.to_string(), name: key_prefix.as_str().to_owned() },
        before: None,
        after: Some(token_state(&token)),
    };
    transaction.insert_admin_event(&event).await?;
    let unwritable = |source| BootstrapError::TokenFile { path: token_file.to_owned(), source };
    // Where the data directory is not the one that was meant, what is there is the only token of another installation.
    if let Some(kept) = private::keep_beside(token_file).map_err(unwritable)? {
        tracing::warn!(file = %token_file.display(), kept = %kept.display(), "a token of an installation before was there: it is kept");
    }
    // The file comes before the commit: a token without a row is worth nothing, a row without its token locks
    // everybody out.
    private::write_private(token_file, &format!("{}\n", secret.expose())).map_err(unwritable)?;
    transaction.commit().await?;
    tracing::info!(installation = %installation.id, "a new installation was made");
    tracing::info!(file = %token_file.display(), "the owner's token lies in this file");
    Ok(installation)
}
