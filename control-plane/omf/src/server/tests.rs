//! Servers that start, end and start again.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use omniflow_domain::clock::Clock;
use omniflow_policy::key::KeyPrefix;
use omniflow_store::StoreError;
use serde_json::json;
use sqlx::Connection as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::*;

/// The default settings for this data directory.
fn settings(folder: &Path) -> ServerSettings {
    ServerSettings::in_folder(folder, Clock::system())
}

/// A poll from a gateway.
fn report() -> omniflow_policy::gateway::EnforcedReport {
    serde_json::from_value(json!({
        "gateway": "edge", "incarnation": "000000000000000a", "installation": null, "vms": []}))
    .unwrap()
}

#[tokio::test]
async fn a_server_notes_its_gateways_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(settings(folder.path())).await.unwrap();
    server.app.fleet.reported(&report(), omniflow_service::fleet::VersionBounds::ALL);
    server.run_until(async {}).await.unwrap();
    let app = ControlPlane::open(&settings(folder.path())).await.unwrap();
    assert_eq!(app.fleet.list(None, 9).len(), 1);
}

#[tokio::test]
async fn a_server_that_ends_by_itself_leaves_the_data_directory_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(settings(folder.path())).await.unwrap();
    server.app.fleet.reported(&report(), omniflow_service::fleet::VersionBounds::ALL);
    let connections = server.connections.clone();
    let running = tokio::spawn(server.run_until(std::future::pending()));
    connections.shutdown();
    let ended = timeout(Duration::from_secs(30), running).await;
    ended.unwrap().unwrap().unwrap();
    let app = ControlPlane::open(&settings(folder.path())).await.unwrap();
    assert_eq!(app.fleet.list(None, 9).len(), 1, "its gateways were noted");
}

#[tokio::test]
async fn one_process_for_one_folder_and_one_port() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(settings(&data)).await.unwrap();
    let second = Server::start(settings(&data)).await.err().unwrap();
    assert!(matches!(second, ServerError::Storage(StoreError::InUse(_))), "{second}");

    let elsewhere = folder.path().join("elsewhere");
    let busy = ServerSettings { listen: server.address(), ..settings(&elsewhere) };
    let third = Server::start(busy).await.err().unwrap();
    assert!(matches!(third, ServerError::Listen { .. }), "{third}");
    assert!(!elsewhere.exists(), "a busy port leaves nothing behind");

    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run_until(async move {
        let _ = stopped.await;
    }));
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    Server::start(settings(&data)).await.unwrap();
}

/// A connection to the main database of a new installation that no process uses.
async fn closed_database(folder: &Path) -> sqlx::SqliteConnection {
    let app = ControlPlane::open(&settings(folder)).await.unwrap();
    app.store.close().await;
    drop(app);
    let path = folder.join("omniflow.db");
    sqlx::SqliteConnection::connect(path.to_str().unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_stored_policy_that_is_rejected_ends_the_start_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = closed_database(folder.path()).await;
    sqlx::query("UPDATE policy_versions SET document = 'no policy'").execute(&mut database).await.unwrap();
    database.close().await.unwrap();
    let server = Server::start(settings(folder.path())).await.unwrap();
    let error = server.run_until(std::future::pending()).await.unwrap_err();
    assert!(error.to_string().contains("policy"), "{error}");
    Server::start(settings(folder.path())).await.expect("the folder is free again");
}

/// The response of a server to a GET, with its headers.
async fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut connection = tokio::net::TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_is_reported_while_the_databases_are_opened() {
    let folder = tempfile::tempdir().unwrap();
    // An open transaction delays the start like a long migration.
    let mut database = closed_database(folder.path()).await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut database).await.unwrap();
    sqlx::query("CREATE TABLE ballast (x)").execute(&mut database).await.unwrap();
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let probes = async {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(4);
        let answer = loop {
            match get(listen, "/readyz").await {
                Ok(answer) => break answer,
                Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
            }
            tokio::task::yield_now().await;
        };
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"code\":\"not_ready\""), "{answer}");
        assert!(answer.contains("is starting"), "{answer}");
        assert!(get(listen, "/healthz").await.unwrap().starts_with("HTTP/1.1 200"));
        sqlx::query("ROLLBACK").execute(&mut database).await.unwrap();
    };
    let settings = ServerSettings { listen, ..settings(folder.path()) };
    let (server, ()) = tokio::join!(Server::start(settings), probes);
    let server = server.unwrap();
    assert!(get(listen, "/healthz").await.unwrap().starts_with("HTTP/1.1 200"));
    server.run_until(async {}).await.unwrap();
}

#[tokio::test]
async fn the_owners_token_goes_where_it_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("owner");
    let settings = ServerSettings {
        admin_token_file: Some(token_file.clone()),
        key_prefix: KeyPrefix::parse("acme").unwrap(),
        ..settings(&folder.path().join("data"))
    };
    let app = ControlPlane::open(&settings).await.unwrap();
    let token = std::fs::read_to_string(&token_file).unwrap();
    assert!(token.starts_with("acme_token_") && token.ends_with('\n'));
    assert_eq!(std::fs::metadata(&token_file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!folder.path().join("data/admin-token").exists());
    // A different data directory, by mistake: the token of the first one is not lost.
    let other = ServerSettings { data_dir: folder.path().join("other"), ..settings.clone() };
    ControlPlane::open(&other).await.unwrap();
    assert_ne!(std::fs::read_to_string(&token_file).unwrap(), token);
    assert_eq!(std::fs::read_to_string(folder.path().join("owner.1")).unwrap(), token);
    assert_eq!(app.publisher.installation.key_prefix.as_str(), "acme");
    assert_eq!(app.store.policy().await.unwrap().document.key_prefix.as_str(), "acme");
    for file in std::fs::read_dir(folder.path().join("data")).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
}
