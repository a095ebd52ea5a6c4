use omniflow_domain::admin_event::AdminLogFilter;
use omniflow_domain::clock::Clock;
use omniflow_policy::time::UnixMillis;
use omniflow_store::{AdminLogStore, Store};
use omniflow_store_sqlite::SqliteStore;
use sqlx::Connection as _;
use tokio::task::spawn_blocking;

use super::*;
use crate::server::Server;
use crate::settings::ServerSettings;

/// The files that the commands read, by name.
const FILES: [(&str, &str); 4] = [
    ("policy.json", r#"{"scopes": [{"name": "contacts:read"}, {"name": "orders:read"}], "routes": []}"#),
    ("draft.toml", "routes = []\n[[scopes]]\nname = \"contacts:read\"\n"),
    ("bad.json", r#"{"scopes": [], "routes": [{"path": "x", "methods": [], "scope": "a:b"}]}"#),
    ("broken.json", "{\n  \"scopes\": 1\n}"),
];

/// Commands that succeed, in this order. Files are in [`FILES`].
const ACCEPTED: &[&str] = &[
    "key create --name ci --environment live --scope contacts:read --per-hour 100 --allow 10.0.0.0/8",
    "--json key create --name cd --environment test --scope contacts:read",
    "key list --status active --limit 1",
    "key show ci",
    "--json key show cd",
    "key rotate ci",
    "key rotate ci --overlap 0s",
    "--json key rotate cd --overlap 7d",
    "key list --status rotating --unused-since 2027-01-15T08:00:00Z",
    "key list --rotation-due",
    "key revoke ci --version 1",
    "key revoke ci --wait 1ms",
    "key revoke cd --version 1",
    "audit --key ci --status 4xx",
    "anomalies --key ci --kind volume_spike --limit 5",
    "audit stats --by hour,key --limit 5",
    "--json audit stats --key ci --status 4xx",
    "key create --name ci2 --environment live --scope contacts:read --idempotency-key one",
    "key create --name ci2 --environment live --scope contacts:read --idempotency-key one",
    "key create --name burst --environment live --scope contacts:read --burst 5",
    "gateway list --limit 1",
    "gateway list --cursor edge/000000000000000a",
    "token list --limit 1",
    "token create --name edge --role gateway",
    "token create --name eu --role gateway --gateway edge-1 --gateway eu-*",
    "token create --name by.name --role auditor",
    "token revoke by.name",
    "token list --json",
    "policy show --json",
    "policy set policy.json --wait 1ms",
    "key update ci2 --scope contacts:read --allow ::1 --description x",
    "--json key update ci2 --default-limits --allow-any --no-expiry --if-match 2",
    "key list --expires-before 2030-01-01T00:00:00Z",
    "admin-log --action key.changed --limit 1",
    "--json admin-log --subject ci2",
    "policy versions",
    "policy diff --from 1",
    "policy diff draft.toml",
    "policy replay draft.toml",
    "policy show --toml",
    "policy show --version 1 --json",
    "policy explain --key ci2 GET /api/v1/contacts --calls-before 1",
    "policy explain --header accept:text GET /x",
    "policy explain --key ci2 GET /x --draft draft.toml",
    "policy rollback 1",
    "policy rollback 2 --wait 1ms --if-match 3",
    "key create --name shop --environment live --scope orders:read",
];

/// Commands that fail afterwards, each with a part of its error.
const REJECTED: &[(&str, &str)] = &[
    ("key show nobody", "not_found"),
    ("key rotate nobody", "not_found"),
    ("key rotate ci", "key_revoked"),
    ("key rotate cd --overlap 31d", "overlap must be"),
    ("key list --unused-since yesterday", "unused_since"),
    ("key create --name ci --environment live --scope contacts:read", "name_taken"),
    ("key create --name x --environment live --scope none:read", "/scopes/0"),
    ("token revoke 0190163d-8694-739b-aea5-966c26f8ad91", "not_found"),
    ("token revoke by.name", "no token is named by.name"),
    ("key list --token omf_token_wrong", "the token from --token is not valid for this control plane"),
    ("audit --ip nowhere", "invalid_query"),
    ("audit stats --by colour", "one or two of hour"),
    ("gateway list --limit 0", "limit"),
    ("policy set bad.json", "bad.json: line 1: /routes/0/path: "),
    ("policy set broken.json", "broken.json: /scopes: "),
    ("policy set broken.json", "line 2 column"),
    ("key update ci2", "nothing to change"),
    ("key update ci2 --description y --if-match 9", "version_mismatch"),
    (
        "key import --name x --environment live --scope contacts:read --digest e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "imports_disabled",
    ),
    ("key import --name x --environment live --scope contacts:read", "--secret-file"),
    (
        "key create --name y --environment live --scope contacts:read --idempotency-key one",
        "idempotency_key_reused",
    ),
    ("policy rollback 99", "the policy has no version 99"),
    ("policy explain --key nobody GET /x", "no key has"),
    ("policy diff --from 99", "from must be the number"),
    ("admin-log --action none", "action must be one of"),
    ("policy set /nowhere/policy.json", "/nowhere/policy.json: No such file"),
    ("policy set", "<FILE>"),
    ("key create", "--name"),
    ("audit --colour red", "--colour"),
];

#[test]
fn the_command_line_is_consistent_and_shows_no_token() {
    let mut command = command();
    command.clone().debug_assert();
    let help = command.render_long_help().to_string();
    assert!(help.contains("OMF_TOKEN_FILE") && help.contains("Examples:"));
    let create = command.find_subcommand_mut("key").unwrap().find_subcommand_mut("create").unwrap();
    assert!(create.render_long_help().to_string().contains("[default: 60, unless --per-hour is set]"));
    let rotate = command.find_subcommand_mut("key").unwrap().find_subcommand_mut("rotate").unwrap();
    let help = rotate.render_long_help().to_string();
    assert!(help.contains("from 0s to 720h [default: 24h]") && help.contains("Examples:"), "{help}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_works_against_a_server() {
    let folder = tempfile::tempdir().unwrap();
    // 2027-01-15T08:00:00Z.
    let clock = Clock::from_fn(|| UnixMillis(1_800_000_000_000));
    let server = Server::start(ServerSettings::in_folder(folder.path(), clock)).await.unwrap();
    let url = format!("http://{}", server.address());
    let token = folder.path().join("admin-token").display().to_string();
    for (name, content) in FILES {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run_until(async move {
        let _ = stopped.await;
    }));
    let omf = async |line: &str| {
        let connection = ["--url", &url, "--token-file", &token];
        let path = |word: &str| match FILES.iter().any(|(name, _)| *name == word) {
            true => folder.path().join(word).display().to_string(),
            false => word.to_owned(),
        };
        let words: Vec<String> =
            std::iter::once("omf").chain(line.split(' ')).chain(connection).map(path).collect();
        let result = spawn_blocking(move || run(parse(words)?)).await.unwrap();
        result.map_err(|error| format!("{error:#}"))
    };
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while let Err(error) = omf("policy show").await {
        assert!(tokio::time::Instant::now() < deadline, "not ready: {error}");
    }
    for &line in ACCEPTED {
        assert_eq!(omf(line).await, Ok(()), "{line}");
    }
    for &(line, reason) in REJECTED {
        let error = omf(line).await.unwrap_err();
        assert!(error.contains(reason), "{line}: {error}");
    }
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    assert!(omf("key list").await.unwrap_err().contains("is it running?"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_no_control_plane_is_reported() {
    use axum::Json;
    let other = axum::Router::new()
        .route("/page/v1/keys", axum::routing::get("<html>"))
        .fallback(async || Json(serde_json::json!({"hello": "world"})));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, other).await });
    for (path, line) in [
        ("", "key list"),
        ("/page", "key list"),
        ("", "audit"),
        ("", "gateway list --json"),
        ("", "key show ci"),
        ("", "key create --name ci --environment live --scope contacts:read"),
        ("", "key rotate ci"),
        ("", "key revoke ci"),
        ("", "token revoke 0190163d-8694-739b-aea5-966c26f8ad91"),
        ("", "policy show"),
    ] {
        let url = format!("{url}{path}");
        let words = format!("omf {line} --token t --url {url}");
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let result = spawn_blocking(move || run(parse(words)?)).await.unwrap();
        let error = format!("{:#}", result.unwrap_err());
        assert!(error.contains(&format!("{url} does not look like an Omniflow control plane")), "{error}");
    }
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_owner_tokens_are_recovered_in_the_data_directory() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let omf = async |line: String| {
        let words: Vec<String> = format!("omf {line}").split(' ').map(str::to_owned).collect();
        spawn_blocking(move || run(parse(words)?)).await.unwrap().map_err(|error| format!("{error:#}"))
    };
    let file = folder.path().join("token");
    let recover = format!("token recover --data-dir {} --output-file {}", data.display(), file.display());
    assert!(omf(recover.clone()).await.unwrap_err().contains("contains no"));
    assert!(!data.exists() && !file.exists(), "a wrong folder stays as it is");

    let settings = || ServerSettings::in_folder(&data, Clock::system());
    let server = Server::start(settings()).await.unwrap();
    assert!(omf(recover.clone()).await.unwrap_err().contains("another process is using"));
    assert!(!file.exists());
    server.run_until(async {}).await.unwrap();
    std::fs::remove_file(data.join("admin-token")).unwrap();
    assert_eq!(omf(recover.clone()).await, Ok(()));
    let store = SqliteStore::open(&data).await.unwrap();
    let events = store.admin_events(&AdminLogFilter::default(), None, 1).await.unwrap();
    assert_eq!(events[0].noted.principal.name, "omf token recover");
    store.close().await;
    drop(store);

    let server = Server::start(settings()).await.unwrap();
    let url = format!("--url http://{} --token-file {}", server.address(), file.display());
    let running = tokio::spawn(server.run_until(std::future::pending()));
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while let Err(error) = omf(format!("policy show {url}")).await {
        assert!(tokio::time::Instant::now() < deadline, "not ready: {error}");
    }
    assert_eq!(omf(format!("token create --name next --role owner {url}")).await, Ok(()));
    assert_eq!(omf(format!("token revoke owner {url}")).await, Ok(()), "the lost one");
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn config_check_finds_databases_that_serve_rejects() {
    let folder = tempfile::tempdir().unwrap();
    let check = async || {
        let words = format!("omf config check --data-dir {}", folder.path().display());
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        spawn_blocking(move || run(parse(words)?)).await.unwrap().map_err(|error| format!("{error:#}"))
    };
    SqliteStore::open(folder.path()).await.unwrap().close().await;
    assert_eq!(check().await, Ok(()));
    let path = folder.path().join("audit.db");
    let mut database = sqlx::SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
    sqlx::query("UPDATE _sqlx_migrations SET version = 99").execute(&mut database).await.unwrap();
    database.close().await.unwrap();
    let settings = ServerSettings::in_folder(folder.path(), Clock::system());
    let refused = Server::start(settings).await.err().unwrap().to_string();
    let found = check().await.unwrap_err();
    assert!(found.contains(&refused) && found.contains("audit.db"), "{found} lacks {refused}");
}

/// The help of a command as `--help` prints it, without what depends on the machine.
fn help(command: &clap::Command) -> String {
    // Values in the environment would be shown next to the variables.
    let mut command = command.clone().mut_args(|argument| argument.hide_env_values(true)).term_width(100);
    let text = command.render_long_help().to_string();
    text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[test]
fn help_texts_are_under_review() {
    let mut omf = command();
    omf.build();
    let mut text = format!("$ omf --help\n{}", help(&omf));
    for (path, command) in omniflow_cli::commands(command()) {
        text.push_str(&format!("\n$ omf {path} --help\n{}", help(&command)));
    }
    let serve = text.split("$ omf ").find(|text| text.starts_with("serve")).unwrap();
    assert!(!serve.contains("OMF_TOKEN") && text.contains("Global options:"));
    omniflow_golden::check("help.txt", &text);
}

#[test]
fn groups_are_no_commands_and_what_is_both_is_one() {
    let commands = commands();
    for command in ["serve", "key create", "audit", "audit gaps", "db backup", "doctor"] {
        assert!(commands.iter().any(|one| one == command), "{command}: {commands:?}");
    }
    for group in ["key", "db", "token", "help", "key help"] {
        assert!(!commands.iter().any(|one| one == group), "{group}");
    }
}
