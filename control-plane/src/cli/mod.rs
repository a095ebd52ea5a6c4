//! The command line: `omf serve` runs the control plane, `omf db` works on its databases, everything else calls its
//! API.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 done but not yet enforced by every gateway. What a program
//! may want to read goes to standard output, everything else to standard error.

mod args;
mod audit;
mod client;
mod completions;
mod config;
mod db;
mod doctor;
mod doctor_gateways;
mod doctor_log;
mod events;
mod gateway;
mod input;
mod key;
mod output;
mod policy;
mod reference;
mod secret_output;
mod serve;
mod token;
mod trust;

use std::process::ExitCode;

use self::args::{Command, Omf};
use self::client::{Client, Refusal};
use self::output::{NotEnforced, Output, escaped, printable};
pub use self::reference::commands;

/// The exit code of a change that is made, and that some gateways do not enforce yet.
const NOT_ENFORCED: u8 = 3;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let omf = args::parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let json = omf.json;
    match run(omf) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", told(&error, json));
            if error.is::<NotEnforced>() { ExitCode::from(NOT_ENFORCED) } else { ExitCode::FAILURE }
        }
    }
}

/// The lines of a text, each without what would steer the terminal. Tabs stay.
fn lines(text: &str) -> String {
    let line = |line: &str| line.split('\t').map(printable).collect::<Vec<_>>().join("\t");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// What is printed of an error: a line for people, or the problem document of a refusal for programs.
fn told(error: &anyhow::Error, json: bool) -> String {
    match error.downcast_ref::<Refusal>() {
        _ if !json => lines(&format!("omf: {error:#}")),
        Some(refusal) => escaped(&refusal.problem.to_string()),
        None => escaped(&serde_json::json!({"detail": format!("{error:#}")}).to_string()),
    }
}

fn run(omf: Omf) -> anyhow::Result<()> {
    let output = Output { json: omf.json };
    let client = || Client::new(&omf.connection);
    match omf.command {
        Command::Serve(args) => serve::run(&args),
        Command::Config(command) => config::run(&command, output),
        Command::Key(command) => key::run(command, &client()?, output),
        Command::Audit(command) => audit::run(*command, &client()?, output),
        Command::Gateway(command) => gateway::run(&command, &client()?, output),
        Command::Token(command) => token::run(command, &client()?, output),
        Command::Policy(command) => policy::run(command, &client()?, output),
        Command::Events(args) => events::run(args, &client()?, output),
        Command::Db(command) => db::run(command, output),
        Command::Doctor(args) => doctor::run(&args, &omf.connection, output),
        Command::Completions(args) => completions::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use tokio::task::spawn_blocking;

    use super::*;
    use crate::http::testing::{START, settings};
    use crate::server::Server;

    #[test]
    fn the_command_line_is_consistent_and_shows_no_token() {
        let mut command = args::command();
        command.clone().debug_assert();
        let help = command.render_long_help().to_string();
        assert!(help.contains("OMF_TOKEN_FILE") && help.contains("Examples:"));
        let create = command.find_subcommand_mut("key").unwrap().find_subcommand_mut("create").unwrap();
        assert!(create.render_long_help().to_string().contains("[default: 60, unless --per-hour is given]"));
        let rotate = command.find_subcommand_mut("key").unwrap().find_subcommand_mut("rotate").unwrap();
        let help = rotate.render_long_help().to_string();
        assert!(help.contains("from 0s to 720h [default: 24h]") && help.contains("Examples:"), "{help}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_command_works_against_a_server() {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(settings(folder.path(), &Arc::new(AtomicU64::new(START)))).await.unwrap();
        let url = format!("http://{}", server.address());
        let token = folder.path().join("admin-token").display().to_string();
        let file = folder.path().join("policy.json");
        std::fs::write(
            &file,
            r#"{"scopes": [{"name": "contacts:read"}, {"name": "orders:read"}], "routes": []}"#,
        )
        .unwrap();
        let toml = folder.path().join("draft.toml");
        std::fs::write(&toml, "routes = []\n[[scopes]]\nname = \"contacts:read\"\n").unwrap();
        let set = format!("policy set {} --wait 1ms", file.display());
        let draft_diff = format!("policy diff {}", toml.display());
        let replay = format!("policy replay {}", toml.display());
        let evaluate_draft = format!("policy evaluate --key ci2 GET /x --draft {}", toml.display());
        let (bad, broken) = (folder.path().join("bad.json"), folder.path().join("broken.json"));
        std::fs::write(&bad, r#"{"scopes": [], "routes": [{"path": "x", "methods": [], "scope": "a:b"}]}"#)
            .unwrap();
        std::fs::write(&broken, "{\n  \"scopes\": 1\n}").unwrap();
        let set_bad = format!("policy set {}", bad.display());
        let set_broken = format!("policy set {}", broken.display());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(server.run_until(async move {
            let _ = stopped.await;
        }));
        let omf = async |line: &str| {
            let connection = ["--url", &url, "--token-file", &token];
            let words: Vec<String> =
                std::iter::once("omf").chain(line.split(' ')).chain(connection).map(str::to_owned).collect();
            let result = spawn_blocking(move || run(args::parse(words)?)).await.unwrap();
            result.map_err(|error| format!("{error:#}"))
        };
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
        while let Err(error) = omf("policy show").await {
            assert!(tokio::time::Instant::now() < deadline, "not ready: {error}");
        }
        for line in [
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
            "audit patterns --key ci --kind volume_spike --limit 5",
            "audit stats --by hour,key --limit 5",
            "--json audit stats --key ci --status 4xx",
            "key create --name ci2 --environment live --scope contacts:read --idempotency-key one",
            "key create --name ci2 --environment live --scope contacts:read --idempotency-key one",
            "key create --name burst --environment live --scope contacts:read --burst 5",
            "gateway list --limit 1",
            "gateway list --cursor edge/000000000000000a",
            "token list --limit 1",
            "token create --name edge --role gateway",
            "token create --name by.name --role auditor",
            "token revoke by.name",
            "token list --json",
            "policy show --json",
            &set,
            "key update ci2 --scope contacts:read --allow ::1 --description x",
            "--json key update ci2 --default-limits --allow-any --no-expiry --if-match 2",
            "key list --expires-before 2030-01-01T00:00:00Z",
            "events --action key.changed --limit 1",
            "--json events --subject ci2",
            "policy versions",
            "policy diff --from 1",
            &draft_diff,
            &replay,
            "policy show --toml",
            "policy show --version 1 --json",
            "policy evaluate --key ci2 GET /api/v1/contacts --calls-before 1",
            "policy evaluate --header accept:text GET /x",
            &evaluate_draft,
            "policy rollback 1",
            "policy rollback 2 --wait 1ms --if-match 3",
            "key create --name shop --environment live --scope orders:read",
        ] {
            assert_eq!(omf(line).await, Ok(()), "{line}");
        }
        for (line, reason) in [
            ("key show nobody", "not_found"),
            ("key rotate nobody", "not_found"),
            ("key rotate ci", "key_revoked"),
            ("key rotate cd --overlap 31d", "overlap is"),
            ("key list --unused-since yesterday", "unused_since"),
            ("key create --name ci --environment live --scope contacts:read", "name_taken"),
            ("key create --name x --environment live --scope none:read", "/scopes/0"),
            ("token revoke 0190163d-8694-739b-aea5-966c26f8ad91", "not_found"),
            ("token revoke by.name", "no token is called by.name"),
            ("key list --token omf_token_wrong", "the token from --token is not valid here"),
            ("audit --ip nowhere", "invalid_query"),
            ("audit stats --by colour", "one or two of hour"),
            ("gateway list --limit 0", "limit"),
            (&set_bad, "bad.json: line 1: /routes/0/path: "),
            (&set_broken, "broken.json: /scopes: "),
            (&set_broken, "line 2 column"),
            ("key update ci2", "nothing to change"),
            ("key update ci2 --description y --if-match 9", "version_mismatch"),
            ("key import --name x --environment live --scope contacts:read --digest 00", "imports_not_taken"),
            ("key import --name x --environment live --scope contacts:read", "--secret-file"),
            (
                "key create --name y --environment live --scope contacts:read --idempotency-key one",
                "idempotency_key_reused",
            ),
            ("policy rollback 99", "no policy has the version 99"),
            ("policy evaluate --key nobody GET /x", "no key has"),
            ("policy diff --from 99", "from is a version"),
            ("events --action none", "an action is one of"),
            ("policy set /nowhere/policy.json", "/nowhere/policy.json: No such file"),
            ("policy set", "<FILE>"),
            ("key create", "--name"),
            ("audit --colour red", "--colour"),
        ] {
            let error = omf(line).await.unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
        stop.send(()).unwrap();
        running.await.unwrap().unwrap();
        assert!(omf("key list").await.unwrap_err().contains("is it running?"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_is_no_control_plane_is_told() {
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
            let result = spawn_blocking(move || run(args::parse(words)?)).await.unwrap();
            let error = format!("{:#}", result.unwrap_err());
            assert!(
                error.contains(&format!("{url} does not look like an Omniflow control plane")),
                "{error}"
            );
        }
        serving.abort();
    }
}
