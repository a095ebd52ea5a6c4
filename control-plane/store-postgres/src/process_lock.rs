//! One process at a time uses a database.
//!
//! A session of the database holds an advisory lock for as long as the process runs. The session may end earlier, if the
//! server is restarted or the network is cut. Then another process can take the lock, and this one must not write any more.
//! So each process registers an identifier when it takes the lock, and every transaction begins with a check of it. Taking
//! over waits until the transactions of the previous process have ended. A process that was taken over never takes the lock
//! again, and does not read any more either, because its state in memory is stale.

use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use omniflow_store::encoding::Columns;
use omniflow_store::{Result, StoreError};

use crate::database::{Database, responds_within};
use crate::error::{backend, is_takeover};

/// How long a start waits for the session of a process that has just ended.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(100);
/// The pause between two checks of the session.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a statement of the session may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How long a start waits for the transactions of the previous process. The server ends each after a minute.
const REGISTER_LIMIT: Duration = Duration::from_secs(90);

/// The session is closed 25 seconds after its host stopped responding. By default that takes two hours, for which no other
/// process could start.
const SESSION: &str = "SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false), \
     set_config('default_transaction_isolation', 'read committed', false), \
     set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false), \
     set_config('tcp_keepalives_count', '3', false)";
const TAKEN_OVER: &str = "another process uses the database";
const TRY: &str = "SELECT pg_try_advisory_lock(7302502, 3)";
/// Both kinds of transactions have ended.
const WAIT: &str = "SELECT pg_advisory_xact_lock(7302502, 1), pg_advisory_xact_lock(7302502, 2)";
const REGISTER: &str = "INSERT INTO serving_process (singleton, id) VALUES (1, gen_random_uuid()) \
     ON CONFLICT (singleton) DO UPDATE SET id = excluded.id RETURNING id";

/// The lock of this process, and its identifier.
#[derive(Debug)]
pub(crate) struct ProcessLock {
    /// The database, without a password.
    database: String,
    id: Uuid,
    session: Mutex<Option<PgConnection>>,
}

// === impl ProcessLock ===

impl ProcessLock {
    /// Registers this process. The session has the lock.
    pub(crate) async fn register(mut session: PgConnection, database: String) -> Result<Self> {
        let id = async {
            let mut transaction = session.begin().await?;
            sqlx::query(WAIT).execute(&mut *transaction).await?;
            let row = sqlx::query(REGISTER).fetch_one(&mut *transaction).await?;
            transaction.commit().await?;
            Ok(row)
        };
        let row = responds_within(REGISTER_LIMIT, async {
            id.await.map_err(|error: sqlx::Error| backend(error, REGISTER_LIMIT))
        })
        .await?;
        Ok(Self { database, id: row.column(0)?, session: Mutex::new(Some(session)) })
    }

    /// The identifier of this process.
    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    /// Keeps the lock for as long as the process runs: if its session ends, another one takes it again.
    pub(crate) async fn keep(&self, database: &Database) {
        let mut is_lost = false;
        loop {
            sleep(INTERVAL).await;
            let kept = self.check(database).await;
            match (&kept, is_lost) {
                (Err(error), false) => {
                    tracing::error!(%error, "lock of the database lost; another process can take it over");
                }
                (Ok(()), true) => tracing::info!("lock of the database taken again"),
                _ => {}
            }
            is_lost = kept.is_err();
        }
    }

    async fn check(&self, database: &Database) -> Result<()> {
        let mut session = self.session.lock().await;
        if let Some(held) = session.as_mut()
            && self.confirm(held, database).await.is_ok()
        {
            return Ok(());
        }
        *session = None;
        let mut new = database.connect().await?;
        let is_locked = try_lock(&mut new).await?;
        // After the lock, so that no other process can register in between.
        if let Err(error) = self.confirm(&mut new, database).await {
            let _ = timeout(LIMIT, new.close()).await;
            return Err(error);
        }
        if !is_locked {
            return Err(StoreError::DatabaseInUse(self.database.clone()));
        }
        *session = Some(new);
        Ok(())
    }

    /// Succeeds if no other process has taken over. If one has, this one does not use the database any more.
    async fn confirm(&self, session: &mut PgConnection, database: &Database) -> Result<()> {
        let check = sqlx::query("SELECT check_process($1)").bind(self.id).execute(session);
        responds_within(LIMIT, async {
            match check.await {
                Ok(_) => Ok(()),
                Err(error) if is_takeover(&error) => Err(database.abandon(TAKEN_OVER)),
                Err(error) => Err(backend(error, LIMIT)),
            }
        })
        .await
    }

    /// Releases the lock.
    pub(crate) async fn release(&self) {
        if let Some(session) = self.session.lock().await.take() {
            // The server releases the lock when the socket is closed, too.
            let _ = timeout(LIMIT, session.close()).await;
        }
    }
}

/// Takes the lock of the database with this name for a session. Waits for a process that has just ended.
///
/// # Errors
///
/// [`StoreError::DatabaseInUse`] if another process uses the database.
pub(crate) async fn take_lock(session: &mut PgConnection, database: String) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !try_lock(session).await? {
        if Instant::now() > deadline {
            return Err(StoreError::DatabaseInUse(database));
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

async fn try_lock(session: &mut PgConnection) -> Result<bool> {
    let locked = async {
        sqlx::query(SESSION).execute(&mut *session).await?;
        sqlx::query(TRY).fetch_one(&mut *session).await
    };
    let locked = async { locked.await.map_err(|error: sqlx::Error| backend(error, LIMIT)) };
    let row = responds_within(LIMIT, locked).await?;
    row.column(0)
}
