//! The first start: creates the installation, its policy and the owner's token. Also the recovery of a lost owner token.

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

/// The principal of a recovery in the admin log. A recovery needs no token.
const RECOVERY: &str = "omf token recover";
/// Maximum number of recovered tokens at a time, since each has a number in its name.
const MAX_RECOVERED: usize = 100;

/// The creator of everything that the first start creates.
const FIRST_START: &str = "first start";

/// Why the first start failed. It leaves nothing behind, so the next start is a first start again.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The rows cannot be written.
    #[error(transparent)]
    Storage(#[from] StoreError),
    /// No token can be generated.
    #[error(transparent)]
    Entropy(#[from] EntropyUnavailable),
    /// The owner's token cannot be written to its file.
    #[error("cannot write the owner's token to {}: {source}; choose a writable path with --admin-token-file", path.display())]
    TokenFile {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
}

/// Why an owner token cannot be created in a data directory.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The databases contain no installation.
    #[error("the databases contain no installation: omf serve has never started successfully with them")]
    NoInstallation,
    /// The databases cannot be read or written.
    #[error(transparent)]
    Storage(#[from] StoreError),
    /// No token can be generated.
    #[error(transparent)]
    Entropy(#[from] EntropyUnavailable),
    /// All names are in use.
    #[error("{MAX_RECOVERED} recovered tokens already exist: revoke some of them first")]
    NoName,
}

/// Creates an owner token without authorization by another token, for operators who can write to the data directory and have
/// lost all owner tokens. The same transaction adds an event to the admin log.
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
            gateways: Vec::new(),
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

/// Returns the installation of this store, and creates it on the first start.
///
/// The first start writes the owner's token to `token_file`. The token is stored nowhere else: the database has only its
/// digest.
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
        gateways: Vec::new(),
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
    // With a wrong data directory, an existing file is the only copy of another installation's token.
    if let Some(kept) = private::keep_beside(token_file).map_err(unwritable)? {
        tracing::warn!(file = %token_file.display(), kept = %kept.display(), "existing token of another installation kept");
    }
    // The file is written before the commit: a token without a row is useless, but a row without its token locks
    // everyone out.
    private::write_private(token_file, &format!("{}\n", secret.expose())).map_err(unwritable)?;
    transaction.commit().await?;
    tracing::info!(installation = %installation.id, "installation created");
    tracing::info!(file = %token_file.display(), "owner's token written");
    Ok(installation)
}
