//! The connections to the database: one set for each kind of use, so that none waits for another kind.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection as _, PgConnection, PgPool};
use tokio::time::timeout;

use omniflow_store::encoding::Columns;
use omniflow_store::metrics::{Operation, OperationTimer};
use omniflow_store::{Result, StoreError, StoreMetrics};

use crate::connection::Connection;
use crate::error::backend;
use crate::settings::PostgresSettings;
use crate::time_limit::TIME_LIMIT;

/// How long an operation waits for a connection, including the time to establish one.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(10);
/// An idle connection is checked before its use if it was idle for longer than this.
const CHECKED_AFTER: Duration = Duration::from_secs(1);
/// The server ends a session whose transaction does nothing for longer than this. Other processes wait for it.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The SQLSTATE codes of a rejected password: invalid_password and invalid_authorization_specification.
const REJECTED: [&str; 2] = ["28P01", "28000"];
/// The oldest supported version, as `server_version_num`: older ones get no more fixes.
const OLDEST_VERSION: i64 = 150_000;

/// A kind of use of connections.
#[derive(Clone, Copy, Debug)]
struct Use {
    connections: u32,
    /// The time limit of a statement.
    limit: Duration,
    is_read_only: bool,
    /// Whether what was asked for decides how long statements take.
    is_for_queries: bool,
}

/// Short reads: of single rows, or of few rows through an index.
const READERS: Use =
    Use { connections: 8, limit: Duration::from_secs(5), is_read_only: true, is_for_queries: false };
/// Reads that may take long: lists with filters and exports.
const SCANNERS: Use = Use { connections: 4, limit: TIME_LIMIT, is_read_only: true, is_for_queries: true };
/// Statistics, which may sort the whole log.
const SORTERS: Use = Use { connections: 2, limit: TIME_LIMIT, is_read_only: true, is_for_queries: true };
/// One transaction on keys, one on the request log, and upkeep.
const WRITERS: Use = Use { connections: 4, limit: TIME_LIMIT, is_read_only: false, is_for_queries: false };

/// The connections to one database.
pub(crate) struct Database {
    settings: PostgresSettings,
    readers: Pool,
    scanners: Pool,
    sorters: Pool,
    writers: Pool,
    metrics: StoreMetrics,
    /// Why this process must not use the database any more.
    abandoned: OnceLock<&'static str>,
}

/// Connections for one kind of use.
struct Pool {
    connections: PgPool,
    purpose: Use,
}

/// A connection for reads. Its use is recorded as one read when it is dropped.
pub(crate) struct Reader {
    connection: Connection,
    timer: OperationTimer,
}

// === impl Database ===

impl Database {
    /// Prepares the connections. Each is established when it is needed.
    pub(crate) fn new(settings: PostgresSettings, metrics: StoreMetrics) -> Result<Self> {
        let options = connect_options(&settings)?;
        let pool = |purpose| Pool::new(purpose, options.clone());
        Ok(Self {
            readers: pool(READERS),
            scanners: pool(SCANNERS),
            sorters: pool(SORTERS),
            writers: pool(WRITERS),
            settings,
            metrics,
            abandoned: OnceLock::new(),
        })
    }

    /// A connection for a short read.
    pub(crate) async fn reader(&self) -> Result<Reader> {
        self.read_with(&self.readers).await
    }

    /// A connection for a read that may take long. Reads of [`Database::reader`] do not wait for it.
    pub(crate) async fn scanner(&self) -> Result<Reader> {
        self.read_with(&self.scanners).await
    }

    /// A connection for statistics of the request log. Other reads do not wait for it.
    pub(crate) async fn sorter(&self) -> Result<Reader> {
        self.read_with(&self.sorters).await
    }

    async fn read_with(&self, pool: &Pool) -> Result<Reader> {
        let timer = self.metrics.start(Operation::Read);
        Ok(Reader { connection: self.acquire(pool).await?, timer })
    }

    /// A connection for a transaction.
    pub(crate) async fn writer(&self) -> Result<Connection> {
        self.acquire(&self.writers).await
    }

    /// Starts measuring an operation.
    pub(crate) fn start(&self, operation: Operation) -> OperationTimer {
        self.metrics.start(operation)
    }

    pub(crate) fn metrics(&self) -> &StoreMetrics {
        &self.metrics
    }

    /// Makes every later use of the database fail for this reason, reads included, because the state in memory is stale.
    /// Returns the error.
    pub(crate) fn abandon(&self, reason: &'static str) -> StoreError {
        StoreError::Unavailable((*self.abandoned.get_or_init(|| reason)).into())
    }

    /// Fails if this process must not use the database any more.
    fn check_use(&self) -> Result<()> {
        self.abandoned.get().map_or(Ok(()), |reason| Err(StoreError::Unavailable((*reason).into())))
    }

    /// A connection outside of the pools, without time limits of its own.
    pub(crate) async fn connect(&self) -> Result<PgConnection> {
        self.check_use()?;
        connect(self.connect_options()?).await
    }

    /// The options of such a connection, with the current password.
    pub(crate) fn connect_options(&self) -> Result<PgConnectOptions> {
        connect_options(&self.settings)
    }

    /// Takes a connection of a pool. If the server rejects the password, it may have been changed: it is read again.
    async fn acquire(&self, pool: &Pool) -> Result<Connection> {
        self.check_use()?;
        let connection = match pool.connections.acquire().await {
            Err(error) if is_rejected(&error) && self.settings.password_file.is_some() => {
                let options = connect_options(&self.settings)?;
                for pool in self.pools() {
                    pool.connections.set_connect_options(options.clone());
                }
                pool.connections.acquire().await
            }
            other => other,
        };
        let connection = connection.map_err(|error| backend(error, ACQUIRE_LIMIT))?;
        Ok(Connection::new(connection, pool.purpose.limit, pool.purpose.is_for_queries))
    }

    fn pools(&self) -> [&Pool; 4] {
        [&self.readers, &self.scanners, &self.sorters, &self.writers]
    }

    /// Closes all connections. Returns once those in use are returned, or after a while.
    pub(crate) async fn close(&self) {
        for pool in self.pools() {
            // A connection that does not respond must not prevent the shutdown.
            let _ = timeout(ACQUIRE_LIMIT, pool.connections.close()).await;
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({})", self.settings.url)
    }
}

/// The options of a connection, with the current password.
fn connect_options(settings: &PostgresSettings) -> Result<PgConnectOptions> {
    settings.connect_options().map_err(|error| StoreError::Unavailable(Box::new(error)))
}

/// Whether the server rejected the password.
fn is_rejected(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| REJECTED.contains(&&*code))
}

/// Establishes a connection without time limits of its own.
pub(crate) async fn connect(options: PgConnectOptions) -> Result<PgConnection> {
    responds_within(ACQUIRE_LIMIT, async {
        options.connect().await.map_err(|error| backend(error, ACQUIRE_LIMIT))
    })
    .await
}

/// The result of an operation, for which the client does not wait longer than this, whether the server responds or not.
pub(crate) async fn responds_within<T>(
    limit: Duration,
    operation: impl Future<Output = Result<T>>,
) -> Result<T> {
    let late = || StoreError::Unavailable(format!("no response within {limit:?}").into());
    timeout(limit, operation).await.unwrap_or_else(|_| Err(late()))
}

/// Checks the version of the server and the encoding of the database with this name.
pub(crate) async fn check_server(connection: &mut PgConnection, database: String) -> Result<()> {
    let query = sqlx::query(
        "SELECT current_setting('server_version_num')::integer, current_setting('server_encoding')",
    );
    let row = responds_within(ACQUIRE_LIMIT, async {
        query.fetch_one(connection).await.map_err(|error| backend(error, ACQUIRE_LIMIT))
    })
    .await?;
    let (version, encoding): (i64, &str) = (row.column(0)?, row.column(1)?);
    if version < OLDEST_VERSION {
        let (found, oldest) = (version / 10_000, OLDEST_VERSION / 10_000);
        let reason = format!("{database} is PostgreSQL {found}; PostgreSQL {oldest} or newer is required");
        return Err(StoreError::Unavailable(reason.into()));
    }
    if encoding != "UTF8" {
        let reason =
            format!("{database} has the encoding {encoding}; create the database with ENCODING 'UTF8'");
        return Err(StoreError::Unavailable(reason.into()));
    }
    Ok(())
}

// === impl Pool ===

impl Pool {
    fn new(purpose: Use, options: PgConnectOptions) -> Self {
        let connections = PgPoolOptions::new()
            .max_connections(purpose.connections)
            .acquire_timeout(ACQUIRE_LIMIT)
            .test_before_acquire(false)
            .before_acquire(|connection, use_of| {
                Box::pin(async move {
                    if use_of.idle_for > CHECKED_AFTER {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_connect(move |connection, _| Box::pin(purpose.configure(connection)))
            .connect_lazy_with(options);
        Self { connections, purpose }
    }
}

// === impl Use ===

impl Use {
    /// Configures a new session. Not by startup parameters, which connection poolers refuse.
    async fn configure(self, connection: &mut PgConnection) -> sqlx::Result<()> {
        sqlx::query(
            "SELECT set_config('statement_timeout', $1, false), set_config('lock_timeout', $1, false), \
             set_config('idle_in_transaction_session_timeout', $2, false), \
             set_config('client_connection_check_interval', '1s', false), \
             set_config('default_transaction_read_only', $3, false), \
             set_config('default_transaction_isolation', 'read committed', false), \
             set_config('jit', 'off', false), \
             set_config('plan_cache_mode', $4, false), \
             set_config('synchronous_commit', \
               CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' \
               ELSE current_setting('synchronous_commit') END, false)",
        )
        .bind(self.limit.as_millis().to_string())
        .bind(MAX_PAUSE.as_millis().to_string())
        .bind(if self.is_read_only { "on" } else { "off" })
        // The best plan of a search depends on the text; that of a single row does not depend on anything.
        .bind(if self.is_for_queries { "force_custom_plan" } else { "auto" })
        .execute(connection)
        .await?;
        Ok(())
    }
}

// === impl Reader ===

impl Deref for Reader {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.timer.observe();
    }
}
