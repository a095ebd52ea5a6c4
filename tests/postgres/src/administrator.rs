//! Databases for single tests. A thread creates and removes them, because a test can end at any point.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

use crate::Server;
use crate::server::OWNER;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// The thread with the connection of the administrator of a server.
#[derive(Debug)]
pub(crate) struct Administrator(mpsc::Sender<Task>);

/// A statement, and who waits for its end.
#[derive(Debug)]
struct Task {
    statement: String,
    done: Option<mpsc::Sender<()>>,
}

/// A database, removed when dropped, even if there are connections to it.
#[derive(Debug)]
pub struct TestDatabase {
    server: &'static Server,
    name: String,
}

// === impl Administrator ===

impl Administrator {
    /// Waits until the server responds.
    pub(crate) fn connect(folder: &Path, port: u16, password: &str) -> Self {
        let (sender, tasks) = mpsc::channel::<Task>();
        let options = PgConnectOptions::new_without_pgpass()
            .socket(folder)
            .port(port)
            .username(OWNER)
            .password(password)
            .database("postgres");
        let log = folder.join("log");
        let (ready, wait) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let mut connection = runtime.block_on(first_connection(&options, &log));
            ready.send(()).unwrap();
            for task in tasks {
                let statement = sqlx::AssertSqlSafe(task.statement);
                runtime.block_on(sqlx::raw_sql(statement).execute(&mut connection)).unwrap();
                if let Some(done) = task.done {
                    let _ = done.send(());
                }
            }
        });
        wait.recv().expect("the server does not start");
        Self(sender)
    }

    /// Executes a statement and waits for its end.
    fn execute(&self, statement: String) {
        let (done, wait) = mpsc::channel();
        self.0.send(Task { statement, done: Some(done) }).unwrap();
        wait.recv().expect("the statement failed");
    }
}

/// The first connection, once the server responds.
async fn first_connection(options: &PgConnectOptions, log: &Path) -> PgConnection {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match options.connect().await {
            Ok(connection) => return connection,
            Err(error) if Instant::now() > deadline => {
                let log = std::fs::read_to_string(log).unwrap_or_default();
                panic!("PostgreSQL does not start: {error}\n{log}");
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

// === impl TestDatabase ===

impl TestDatabase {
    /// Creates a database as a copy of another one, to which nobody is connected. The empty one is `template1`.
    pub fn create(server: &'static Server, template: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let database = Self { server, name };
        server.administrator().execute(format!("CREATE DATABASE {} TEMPLATE {template}", database.name));
        database
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its URL, with the password.
    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// Its URL with another role and password.
    pub fn url_of(&self, role: &str, password: &str) -> String {
        self.server.url_of(role, password, &self.name)
    }

    /// Executes a statement as the owner of all databases, connected to another one.
    pub fn administer(&self, statement: &str) {
        self.server.administrator().execute(statement.to_owned());
    }

    /// Executes statements in this database.
    pub async fn execute(&self, statements: &str) {
        self.try_execute(statements).await.unwrap();
    }

    /// The same. Returns the message of the database if it refuses.
    pub async fn try_execute(&self, statements: &str) -> Result<(), String> {
        let mut connection = sqlx::PgConnection::connect(&self.url()).await.unwrap();
        let statements = sqlx::AssertSqlSafe(statements.to_owned());
        let outcome = sqlx::raw_sql(statements).execute(&mut connection).await;
        connection.close().await.unwrap();
        outcome.map(drop).map_err(|error| error.to_string())
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        // Nobody waits for it. At the end of the process, the server is removed anyway.
        let _ = self.server.administrator().0.send(Task { statement, done: None });
    }
}
