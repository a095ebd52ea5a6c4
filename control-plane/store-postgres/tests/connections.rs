//! What happens if the server cannot be used: a wrong or changed password, no TLS, no response.
#![expect(clippy::disallowed_methods, reason = "tests prepare files")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use omniflow_domain::key::KeyReference;
use omniflow_store::contract::fixtures::{id, insert_keys, key};
use omniflow_store::{KeyStore, Store, StoreError, TokenStore};
use omniflow_store_postgres::{PostgresSettings, PostgresStore};
use omniflow_test_postgres::{Server, ServerOptions, TestDatabase, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout};

/// How long a store may take to respond again after a disturbance.
const PATIENCE: Duration = Duration::from_secs(60);

fn settings(url: &str) -> PostgresSettings {
    PostgresSettings::new(url.parse().unwrap())
}

fn write_secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Waits until the store responds.
async fn responds(store: &PostgresStore) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = store.ping().await {
        assert!(Instant::now() < deadline, "{error}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn wrong_password_is_reported_without_it() {
    let database = TestDatabase::create(Server::shared(), "template1");
    let refused = PostgresStore::open(settings(&database.url_of("omf", "wr0ng"))).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
    let shown = format!("{refused} {refused:?}");
    assert!(shown.contains("password authentication failed"), "{shown}");
    assert!(!shown.contains("wr0ng"), "{shown}");
}

#[tokio::test]
async fn changed_password_is_read_again() {
    let database = TestDatabase::create(Server::shared(), "template1");
    let (name, folder) = (database.name(), tempfile::tempdir().unwrap());
    let role = format!("role_{name}");
    database.administer(&format!("CREATE ROLE {role} LOGIN PASSWORD 'first'"));
    database.administer(&format!("ALTER DATABASE {name} OWNER TO {role}"));
    let file = folder.path().join("password");
    write_secret(&file, "first\n");
    let with_file = |url: &str| PostgresSettings { password_file: Some(file.clone()), ..settings(url) };
    let store = PostgresStore::open(with_file(&database.url_of(&role, ""))).await.unwrap();
    store.ping().await.unwrap();
    database.administer(&format!("ALTER ROLE {role} PASSWORD 'second'"));
    let terminate =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'");
    database.administer(&terminate);
    // The file still has the old one.
    let deadline = Instant::now() + PATIENCE;
    let refused = loop {
        let refused = store.ping().await.expect_err("the password is wrong").to_string();
        if refused.contains("password") || Instant::now() > deadline {
            break refused;
        }
    };
    assert!(refused.contains("password authentication failed") && !refused.contains("first"), "{refused}");
    write_secret(&file, "second\n");
    responds(&store).await;
    insert_keys(&store, &[key(1)]).await;
    store.close().await;
    drop(database);
}

#[tokio::test]
async fn password_file_for_others_to_read_is_refused() {
    let database = TestDatabase::create(Server::shared(), "template1");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, "s3cret").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let settings = PostgresSettings { password_file: Some(file), ..settings(&database.url()) };
    let refused = PostgresStore::open(settings).await.unwrap_err().to_string();
    assert!(refused.contains("chmod 600") && !refused.contains("s3cret"), "{refused}");
}

/// Forwards connections to the socket of a server, until it is cut off.
struct Network {
    port: u16,
    faults: Arc<Faults>,
}

/// What the network does to connections.
#[derive(Default)]
struct Faults {
    /// Bytes are lost, and so is the rest of the connection.
    is_cut: AtomicBool,
    /// The connection that sends the next `COMMIT` breaks.
    breaks_at_commit: AtomicBool,
    /// Whether the server receives that.
    is_commit_sent: AtomicBool,
    /// Whether everything is lost after that.
    is_cut_at_commit: AtomicBool,
    /// The server does not receive a statement with this text, nor anything after it.
    stalls_at: Mutex<Option<&'static str>>,
    /// Whether such a statement was sent.
    is_stalled: AtomicBool,
}

impl Network {
    async fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, socket) = (listener.local_addr().unwrap().port(), server.socket());
        let faults = Arc::new(Faults::default());
        let shared = Arc::clone(&faults);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&socket).await.unwrap();
                tokio::spawn(forward(client, server, Arc::clone(&shared)));
            }
        });
        Self { port, faults }
    }

    fn cut(&self, is_cut: bool) {
        self.faults.is_cut.store(is_cut, Ordering::SeqCst);
    }

    /// Also loses everything that is sent after the commit.
    fn cut_at_commit(&self, is_sent: bool) {
        self.faults.is_cut_at_commit.store(true, Ordering::SeqCst);
        self.break_at_commit(is_sent);
    }

    fn stall_at(&self, statement: &'static str) {
        *self.faults.stalls_at.lock().unwrap() = Some(statement);
        self.faults.is_stalled.store(false, Ordering::SeqCst);
    }

    fn break_at_commit(&self, is_sent: bool) {
        self.faults.is_commit_sent.store(is_sent, Ordering::SeqCst);
        self.faults.breaks_at_commit.store(true, Ordering::SeqCst);
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|word| word == text.as_bytes())
}

/// Copies bytes in both directions.
async fn forward(mut client: TcpStream, mut server: UnixStream, faults: Arc<Faults>) {
    let (mut from_client, mut from_server) = (vec![0; 16 << 10], vec![0; 16 << 10]);
    let mut is_lost = false;
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(count @ 1..) = read else { return };
                let bytes = &from_client[..count];
                is_lost |= faults.is_cut.load(Ordering::SeqCst);
                let is_commit = contains(bytes, "COMMIT");
                let stalls_at = *faults.stalls_at.lock().unwrap();
                if stalls_at.is_some_and(|text| contains(bytes, text)) {
                    faults.is_stalled.store(true, Ordering::SeqCst);
                    is_lost = true;
                }
                if is_commit && faults.breaks_at_commit.swap(false, Ordering::SeqCst) {
                    let is_cut = faults.is_cut_at_commit.swap(false, Ordering::SeqCst);
                    if faults.is_commit_sent.load(Ordering::SeqCst) {
                        server.write_all(bytes).await.unwrap();
                        // The response means that it has committed.
                        assert_ne!(server.read(&mut from_server).await.unwrap(), 0);
                    }
                    faults.is_cut.store(is_cut, Ordering::SeqCst);
                    return;
                }
                if !is_lost && server.write_all(bytes).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(count @ 1..) = read else { return };
                is_lost |= faults.is_cut.load(Ordering::SeqCst);
                if !is_lost && client.write_all(&from_server[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A store of a new database, whose connections go through a network that can be cut.
async fn open_through_network() -> (TestDatabase, Network, PostgresStore) {
    let server = Server::shared();
    let database = TestDatabase::create(server, "template1");
    let network = Network::to(server).await;
    let store = PostgresStore::open(settings(&server.tcp_url(network.port, database.name()))).await.unwrap();
    (database, network, store)
}

#[tokio::test]
async fn server_that_is_cut_off_is_an_error() {
    let (_database, network, store) = open_through_network().await;
    insert_keys(&store, &[key(1)]).await;
    let mut transaction = store.begin().await.unwrap();
    transaction.insert_keys(&[key(3)]).await.unwrap();
    network.cut(true);
    let started = Instant::now();
    // On the established connection, then on new ones.
    for _ in 0..2 {
        let failed = timeout(PATIENCE, store.token(id(1))).await.expect("a deadline").unwrap_err();
        assert!(matches!(failed, StoreError::Unavailable(_)), "{failed:?}");
        // The principal can retry, and gets none of the details.
        let error = omniflow_domain::error::Error::from(failed);
        assert_eq!(error.code().as_str(), "busy");
    }
    let failed = timeout(PATIENCE, transaction.commit()).await.expect("a deadline");
    assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
    assert!(started.elapsed() > Duration::from_secs(1), "the deadlines were tested");
    network.cut(false);
    responds(&store).await;
    // The server ends the abandoned transaction once it sees that its client is gone.
    timeout(PATIENCE, insert_keys(&store, &[key(2)])).await.unwrap();
    timeout(PATIENCE, store.close()).await.unwrap();
}

/// The server commits, and its response is lost.
#[tokio::test]
async fn commit_whose_response_is_lost_is_asked_for() {
    let (_database, network, store) = open_through_network().await;
    for (n, is_sent) in [(1, true), (2, false)] {
        let mut transaction = store.begin().await.unwrap();
        transaction.insert_keys(&[key(n)]).await.unwrap();
        network.break_at_commit(is_sent);
        let committed = timeout(PATIENCE, transaction.commit()).await.expect("a deadline");
        assert_eq!(committed.is_ok(), is_sent, "{committed:?}");
        // The process continues with the state of the database.
        let found = store.key(&KeyReference::Id(id(n))).await.unwrap();
        assert_eq!(found.is_some(), is_sent);
        insert_keys(&store, &[key(n + 10)]).await;
    }
    store.close().await;
}

/// A change that was reported as failed is committed: this process has an old state.
#[tokio::test]
async fn process_with_an_old_state_does_not_respond() {
    let (database, network, store) = open_through_network().await;
    let mut transaction = store.begin().await.unwrap();
    transaction.insert_keys(&[key(1)]).await.unwrap();
    network.cut_at_commit(true);
    let failed = timeout(PATIENCE, transaction.commit()).await.expect("a deadline");
    assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
    assert!(store.ping().await.is_err(), "the outcome is not known");
    network.cut(false);
    let deadline = Instant::now() + PATIENCE;
    // Once the server responds, it is known that the change is committed.
    while !store.ping().await.unwrap_err().to_string().contains("restart omf serve") {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(50)).await;
    }
    let failed = [store.begin().await.map(drop), store.key(&KeyReference::Id(id(1))).await.map(drop)];
    for failed in failed {
        assert!(failed.unwrap_err().to_string().contains("restart omf serve"));
    }
    store.close().await;
    let next = PostgresStore::open(settings(&database.url())).await.unwrap();
    assert!(next.key(&KeyReference::Id(id(1))).await.unwrap().is_some());
    next.close().await;
}

/// The server that has the change is replaced by one that does not have it, and has had fewer transactions.
#[tokio::test]
async fn change_that_a_failover_lost_does_not_block_others() {
    let (database, network, store) = open_through_network().await;
    insert_keys(&store, &[key(1)]).await;
    let mut transaction = store.begin().await.unwrap();
    transaction.insert_keys(&[key(2)]).await.unwrap();
    network.cut_at_commit(true);
    let failed = timeout(PATIENCE, transaction.commit()).await.expect("a deadline");
    assert!(failed.is_err());
    database
        .execute("DELETE FROM keys WHERE name = 'key-2'; UPDATE serving_process SET last_change = NULL")
        .await;
    network.cut(false);
    responds(&store).await;
    insert_keys(&store, &[key(3)]).await;
    store.close().await;
}

/// A server or pooler that accepts connections and then does not respond.
#[tokio::test]
async fn start_does_not_wait_for_a_server_that_does_not_respond() {
    let server = Server::shared();
    let database = TestDatabase::create(server, "template1");
    let network = Network::to(server).await;
    let url = server.tcp_url(network.port, database.name());
    let statements =
        ["server_version_num", "pg_try_advisory_lock", "_sqlx_migrations", "INSERT INTO serving_process"];
    for statement in statements {
        network.stall_at(statement);
        let opening = tokio::spawn(PostgresStore::open(settings(&url)));
        let deadline = Instant::now() + PATIENCE;
        while !network.faults.is_stalled.load(Ordering::SeqCst) {
            assert!(Instant::now() < deadline && !opening.is_finished(), "{statement}");
            sleep(Duration::from_millis(10)).await;
        }
        // Nothing else happens any more, so time passes at once.
        tokio::time::pause();
        let opened = timeout(Duration::from_secs(24 * 60 * 60), opening).await;
        tokio::time::resume();
        let refused = opened.unwrap_or_else(|_| panic!("{statement}: no deadline")).unwrap().unwrap_err();
        assert!(refused.to_string().contains("no response within"), "{statement}: {refused}");
        assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
    }
}

#[tokio::test]
async fn server_is_authenticated_by_its_certificate() {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let tls = Tls { certificate: certificate.cert.pem(), key: certificate.signing_key.serialize_pem() };
    let server = Server::start(&ServerOptions { listens_on_tcp: true, tls: Some(tls) });
    let folder = tempfile::tempdir().unwrap();
    let (ca, wrong) = (folder.path().join("ca.pem"), folder.path().join("other.pem"));
    fs::write(&ca, certificate.cert.pem()).unwrap();
    fs::write(&wrong, other.cert.pem()).unwrap();
    let url = server.tcp_url(server.port(), "postgres");
    let by_address = url.replace("@localhost:", "@127.0.0.1:");
    for (url, ca_file, is_accepted) in [
        (url.clone(), Some(ca.clone()), true),
        (format!("{url}?sslmode=verify-full"), Some(ca.clone()), true),
        (format!("{url}?sslmode=require"), None, true),
        (format!("{url}?sslmode=verify-full"), None, false),
        (format!("{url}?sslmode=disable"), None, false),
        (url.clone(), Some(wrong), false),
        (format!("{by_address}?sslmode=verify-full"), Some(ca.clone()), false),
        (format!("{by_address}?sslmode=verify-ca"), Some(ca), true),
    ] {
        let shown = format!("{} with {ca_file:?}", settings(&url).url);
        match PostgresStore::open(PostgresSettings { ca_file, ..settings(&url) }).await {
            Ok(store) => {
                assert!(is_accepted, "{shown}");
                store.ping().await.unwrap();
                store.close().await;
            }
            Err(error) => {
                assert!(!is_accepted, "{shown}: {error}");
                assert!(matches!(error, StoreError::Unavailable(_)), "{shown}: {error:?}");
            }
        }
    }
}

#[tokio::test]
async fn database_is_used_by_one_process() {
    let database = TestDatabase::create(Server::shared(), "template1");
    let first = PostgresStore::open(settings(&database.url())).await.unwrap();
    let refused = PostgresStore::open(settings(&database.url())).await.unwrap_err();
    let StoreError::DatabaseInUse(shown) = &refused else { panic!("{refused:?}") };
    assert!(shown.starts_with("postgres://omf@localhost"), "{shown}");
    first.close().await;
    PostgresStore::open(settings(&database.url())).await.unwrap().close().await;
}

#[tokio::test]
async fn process_whose_database_was_taken_over_does_not_write() {
    let database = TestDatabase::create(Server::shared(), "template1");
    let first = PostgresStore::open(settings(&database.url())).await.unwrap();
    let unfinished = first.begin().await.unwrap();
    // As a restart of the server does, or a cut of the network.
    let of_lock = "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
                   WHERE l.locktype = 'advisory' AND l.objid = 3 AND d.datname = ";
    database.administer(&format!("{of_lock}'{}'", database.name()));
    let second = tokio::spawn(PostgresStore::open(settings(&database.url())));
    sleep(Duration::from_millis(300)).await;
    assert!(!second.is_finished(), "an open transaction of the first process is awaited");
    unfinished.commit().await.unwrap();
    let second = timeout(PATIENCE, second).await.unwrap().unwrap().unwrap();
    let refused = [first.begin().await.map(drop), first.begin_log().await.map(drop), first.ping().await];
    for refused in refused {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
        assert!(refused.to_string().contains("another process uses the database"), "{refused}");
    }
    insert_keys(&second, &[key(1)]).await;
    // Its upkeep must not take the lock, not even once the other process has ended.
    let first = Arc::new(first);
    let upkeep = tokio::spawn({
        let first = Arc::clone(&first);
        async move { first.maintain().await }
    });
    second.close().await;
    let deadline = Instant::now() + PATIENCE;
    // The upkeep has tried, and from then on nothing is read any more: the other process may have changed it.
    while first.token(id(1)).await.is_ok() {
        assert!(Instant::now() < deadline, "the process answers as if it was current");
        sleep(Duration::from_millis(50)).await;
    }
    let refused = first.ping().await.unwrap_err().to_string();
    assert!(refused.contains("another process uses the database"), "{refused}");
    let third = PostgresStore::open(settings(&database.url())).await.unwrap();
    assert!(!upkeep.is_finished());
    third.close().await;
    upkeep.abort();
    first.close().await;
}

#[tokio::test]
async fn lock_is_taken_again_after_an_interruption() {
    let database = TestDatabase::create(Server::shared(), "template1");
    let store = Arc::new(PostgresStore::open(settings(&database.url())).await.unwrap());
    let of_database = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ";
    database.administer(&format!("{of_database}'{}'", database.name()));
    let upkeep = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.maintain().await }
    });
    let has_lock = format!(
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
         WHERE l.locktype = 'advisory' AND l.objid = 3 AND d.datname = '{}') THEN RAISE 'no lock'; END IF; END $$",
        database.name()
    );
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = database.try_execute(&has_lock).await {
        assert!(Instant::now() < deadline, "{error}");
        sleep(Duration::from_millis(50)).await;
    }
    responds(&store).await;
    upkeep.abort();
    store.close().await;
}
