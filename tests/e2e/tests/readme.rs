//! The newcomer's path: what the README's second section tells to type does what it says there.

use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use omniflow_harness::ports::Port;
use omniflow_harness::process::Process;
use omniflow_harness::{Call, client, eventually, paths};

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(20);

/// People take longer to type a line than gateways to hear of the one before; a script does not.
const PRELUDE: &str = r#"
set -euo pipefail
in_step() { omf gateway list --json | grep -q '"in_step": true' && ! omf gateway list --json | grep -q '"in_step": false'; }
curl() { until in_step; do :; done; command curl --silent --show-error "$@"; echo; }
"#;

/// The first block of commands under the README's heading of this name.
fn block(heading: &str) -> String {
    let readme = std::fs::read_to_string(paths::root().join("README.md")).unwrap();
    let section = readme.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap().to_owned()
}

/// The status in the comment behind a call, such as `# 403 insufficient_scope`.
fn promised(line: &str) -> Option<String> {
    let (_, comment) = line.strip_prefix("curl")?.split_once("# ")?;
    Some(comment.chars().take_while(char::is_ascii_digit).collect())
}

#[tokio::test]
async fn a_newcomer_gets_what_the_readme_promises() {
    let folder = tempfile::tempdir().unwrap();
    let ports: Vec<Port> = (0..5).map(|_| Port::reserve().unwrap()).collect();
    let run = folder.path().join("run");
    let binary = paths::omf().unwrap().with_file_name("omniflow-demo");
    let mut demo = Command::new(&binary);
    demo.current_dir(folder.path()).env("OMF_RUN_DIR", &run);
    let variables = [
        "OMF_PORT",
        "OMF_ENVOY_PORT",
        "OMF_ENVOY_ADMIN_PORT",
        "OMF_UPSTREAM_LIVE_PORT",
        "OMF_UPSTREAM_TEST_PORT",
    ];
    for (variable, port) in variables.iter().zip(&ports) {
        demo.env(variable, port.number().to_string());
    }
    let demo = Process::spawn("make run", &mut demo, &folder.path().join("demo.log")).unwrap();
    let (control_plane, envoy) = (ports[0].number(), ports[1].number());
    eventually(START, || async {
        let response = client::call(envoy, Call::get("/")).await?;
        ensure!(response.status == 401, "{}: {}", response.status, demo.log_end(30));
        Ok(())
    })
    .await
    .unwrap();

    let block = block("A key's life");
    let typed = block
        .replace("$PWD/target/release", &binary.parent().unwrap().display().to_string())
        .replace("127.0.0.1:8080", &format!("127.0.0.1:{control_plane}"))
        .replace("127.0.0.1:10000", &format!("127.0.0.1:{envoy}"))
        .replace(".run/admin-token", &run.join("admin-token").display().to_string());
    let mut shell = Command::new("timeout");
    shell.args(["60", "bash", "-c", &format!("{PRELUDE}{typed}")]).env_remove("OMF_TOKEN");
    let output = tokio::task::spawn_blocking(move || shell.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));

    let promised: Vec<String> = block.lines().filter_map(promised).collect();
    let answered: Vec<&str> =
        said.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")?.split(' ').next()).collect();
    assert_eq!(answered, promised, "{said}");
    assert_eq!(answered, ["200", "403", "200", "200", "401"]);
    for expected in
        ["crm-sync is revoked; 1 of 1 gateways enforce it", "key.rotated", "x-ratelimit-remaining", "ok"]
    {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(demo.stop(STOP).unwrap().success());
}
