//! What an administrator sees about a revocation in each state of a gateway: the output and the exit code of
//! `omf key revoke --wait`, `omf doctor`, and the console. A gateway that may still be serving requests is never
//! missing.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use omniflow_harness::{Call, Stack, StackOptions, eventually};
use omniflow_policy::snapshot::Manifest;
use serde_json::{Value, json};

use crate::support::{contacts, omf, rfc3339_in, run};

const WAIT: Duration = Duration::from_secs(60);
/// How long a revocation waits, and how long it may take if there is nothing to wait for.
const PATIENCE: &str = "4s";
const AT_ONCE: Duration = Duration::from_secs(3);

/// The expected result in one state of the gateway.
struct Row {
    state: &'static str,
    exit_code: i32,
    /// Part of what the revocation prints.
    answer: &'static str,
    doctor: &'static str,
    console: &'static str,
}

/// A stack with two workers, whose gateway has a lease of two seconds.
async fn start() -> Stack {
    let mut options = StackOptions::workers(2);
    options.control_plane_arguments = vec!["--gateway-lease".to_owned(), "2".to_owned()];
    Stack::start(options).await.unwrap()
}

/// The outcome of a command: exit code, and both outputs.
async fn outcome(stack: &Stack, arguments: &[&str]) -> (i32, String) {
    let mut command = omf(stack);
    command.args(arguments);
    let output = run(command).await;
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

/// The cookie of an owner's session.
async fn sign_in(stack: &Stack) -> Result<String> {
    let form = format!("token={}", stack.control_plane.admin_token());
    let sign_in = Call::new("POST", "/sign-in")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("sec-fetch-site", "same-origin")
        .body(form);
    let answer = stack.control_plane.call(sign_in).await?;
    let cookie = answer.header("set-cookie").context("no cookie")?;
    Ok(cookie.split(';').next().unwrap_or_default().to_owned())
}

/// The page of gateways for an owner.
async fn console(stack: &Stack) -> Result<String> {
    let cookie = sign_in(stack).await?;
    let page = Call::get("/gateways").header("cookie", &cookie).header("accept", "text/html");
    Ok(stack.control_plane.call(page).await?.text())
}

/// Removes a gateway as an owner does in the console.
async fn remove_by_console(stack: &Stack, id: &str, name: &str) -> Result<()> {
    let (cookie, encoded) = (sign_in(stack).await?, id.replace('/', "%2F"));
    let path = format!("/gateways/remove?id={encoded}");
    let page = Call::get(&path).header("cookie", &cookie).header("accept", "text/html");
    let page = stack.control_plane.call(page).await?.text();
    let (_, csrf) = page.split_once("name=\"csrf\" value=\"").context("no form")?;
    let csrf = csrf.split('"').next().unwrap_or_default();
    let form = Call::new("POST", "/gateways/remove")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("sec-fetch-site", "same-origin")
        .header("cookie", &cookie)
        .body(format!("csrf={csrf}&id={encoded}&name={name}"));
    let answer = stack.control_plane.call(form).await?;
    ensure!(answer.status == 303, "{}: {}", answer.status, answer.text());
    let events = stack.control_plane.list("/v1/admin-log").await?;
    ensure!(events.iter().any(|event| event["action"] == "gateway.removed"), "{events:?}");
    Ok(())
}

/// Revokes a new key and compares what an administrator sees with a row. Returns the secret of the key and how long the
/// revocation took.
async fn check(stack: &Stack, row: &Row) -> Result<(String, Duration)> {
    let Row { state, exit_code, answer, doctor, console: shown } = row;
    let name = format!("key-{}", stack.control_plane.list("/v1/keys").await?.len());
    let key = stack.control_plane.create_live_key(&name, &["contacts:read"]).await?;
    let began = Instant::now();
    let (code, text) = outcome(stack, &["key", "revoke", &name, "--wait", PATIENCE]).await;
    let took = began.elapsed();
    ensure!(code == *exit_code && text.contains(answer), "{state}: exit code {code}, {text}");
    let (_, text) = outcome(stack, &["doctor"]).await;
    ensure!(text.contains(doctor), "{state}: {text}");
    let page = console(stack).await?;
    ensure!(page.contains(shown), "{state}: {page}");
    eprintln!("| {state} | {answer} | {code} | {doctor} | {shown} | {} ms |", took.as_millis());
    Ok((key.secret, took))
}

/// Waits until the gateway is in this state, as the API has it.
async fn until(stack: &Stack, state: &str) {
    eventually(WAIT, || async {
        let gateways = stack.control_plane.list("/v1/gateways").await?;
        ensure!(gateways.iter().any(|gateway| gateway["state"] == state), "not {state}: {gateways:?}");
        Ok(())
    })
    .await
    .unwrap();
}

/// Kills the gateway while it is called and its records arrive: it is not quiescent.
async fn kill_busy(stack: &Stack, name: &str) {
    let fields = json!({
        "name": name, "environment": "live", "scopes": ["contacts:read"], "rate_limit": {"per_minute": 1_000_000},
    });
    let key = stack.key(fields).await.unwrap();
    while stack.control_plane.audit(&format!("key={}&limit=1", key.id)).await.unwrap().is_empty() {
        assert_eq!(stack.call(contacts(&key.secret)).await.unwrap().status, 200);
    }
    stack.envoy.process().kill().unwrap();
}

fn healthy(state: &'static str) -> Row {
    Row {
        state,
        exit_code: 0,
        answer: "enforced by 1 of 1 gateway",
        doctor: "connected and in step",
        console: "1 of 1 in step",
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn healthy_restarted_killed_and_stopped_gateways() {
    let mut stack = start().await;
    check(&stack, &healthy("healthy")).await.unwrap();

    stack.envoy.restart().await.unwrap();
    stack.in_step().await.unwrap();
    check(&stack, &healthy("restarted")).await.unwrap();
    assert_eq!(stack.control_plane.list("/v1/gateways").await.unwrap().len(), 1, "two runs are one gateway");

    kill_busy(&stack, "busy").await;
    stack.envoy.restart().await.unwrap();
    stack.in_step().await.unwrap();
    check(&stack, &healthy("killed and restarted")).await.unwrap();

    kill_busy(&stack, "busy again").await;
    until(&stack, "silent").await;
    let killed = Row {
        state: "killed",
        exit_code: 3,
        answer: "(silent, last seen",
        doctor: "silent since",
        console: "silent</span>",
    };
    let (_, took) = check(&stack, &killed).await.unwrap();
    assert!(took < AT_ONCE, "it waits for nobody: {took:?}");
    let id = stack.control_plane.list("/v1/gateways").await.unwrap()[0]["id"].clone();
    let (code, text) = outcome(&stack, &["gateway", "remove", id.as_str().unwrap()]).await;
    assert_eq!(code, 0, "{text}");
    let none = Row {
        state: "removed",
        exit_code: 0,
        answer: "no gateways are known",
        doctor: "none seen in the last 24 hours",
        console: "No gateways yet",
    };
    check(&stack, &none).await.unwrap();

    stack.envoy.restart().await.unwrap();
    stack.in_step().await.unwrap();
    stack.envoy.stop().unwrap();
    until(&stack, "ended").await;
    let stopped = Row {
        state: "stopped",
        exit_code: 0,
        answer: "no gateways are known",
        doctor: "ended, last seen",
        console: "ended</span>",
    };
    check(&stack, &stopped).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_whose_token_expired_or_was_revoked() {
    let mut stack = start().await;
    let token = async |stack: &Stack, name: &str, expires_at: Option<String>| {
        let body = json!({"name": name, "role": "gateway", "gateways": ["test"], "expires_at": expires_at});
        let created = stack.control_plane.expect(201, Call::post("/v1/tokens", &body)).await.unwrap();
        let created = created.json().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&created["secret"]), text(&created["token"]["id"]))
    };
    let (short, _) = token(&stack, "short", Some(rfc3339_in(Duration::from_secs(15)))).await;
    stack.envoy.restart_with_token(short).await.unwrap();
    stack.in_step().await.unwrap();
    let expiring =
        Row { doctor: "its token expires at", console: "token expires", ..healthy("token expires soon") };
    check(&stack, &expiring).await.unwrap();

    until(&stack, "token_expired").await;
    let rejected = Row {
        state: "token expired",
        exit_code: 3,
        answer: "rejected: token expired",
        doctor: "rejected: token expired",
        console: "rejected: token expired",
    };
    let (_, took) = check(&stack, &rejected).await.unwrap();
    assert!(took < AT_ONCE, "it waits for nobody: {took:?}");

    let (second, id) = token(&stack, "second", None).await;
    stack.envoy.restart_with_token(second).await.unwrap();
    stack.in_step().await.unwrap();
    // The run with the old token was rejected until it ended, so its end was not observed.
    let renewed = healthy("token replaced");
    eventually(WAIT, || check(&stack, &renewed)).await.unwrap();

    let served = stack.live_key("served", &["contacts:read"]).await.unwrap();
    stack.control_plane.delete_token(&id).await.unwrap();
    let rejected = Row {
        state: "token revoked",
        exit_code: 3,
        answer: "rejected: token revoked",
        doctor: "rejected: token revoked",
        console: "rejected: token revoked",
    };
    check(&stack, &rejected).await.unwrap();
    let (code, text) = outcome(&stack, &["key", "revoke", "served", "--wait", PATIENCE]).await;
    assert_eq!(code, 3, "{text}");
    assert_eq!(stack.call(contacts(&served.secret)).await.unwrap().status, 200, "it still serves this key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitioned_gateway_and_forged_acknowledgements() {
    let stack = start().await;
    let forger = stack.control_plane.create_token("forger", "gateway").await.unwrap();
    stack.envoy.process().pause().unwrap();
    let hanging = Row {
        state: "partitioned, within its lease",
        exit_code: 3,
        answer: "enforced by 0 of 1 gateway",
        doctor: "gateway",
        console: "0 of 1 in step",
    };
    check(&stack, &hanging).await.unwrap();
    until(&stack, "silent").await;
    let silent = Row {
        state: "partitioned",
        exit_code: 3,
        answer: "(silent, last seen",
        doctor: "silent since",
        console: "silent</span>",
    };
    check(&stack, &silent).await.unwrap();

    let list = stack.control_plane.get("/v1/gateways").await.unwrap();
    let (gateway, version) = (&list["items"][0], &list["version"]);
    let vms: Vec<Value> = gateway["workers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|vm| json!({"id": vm["id"], "version": version}))
        .collect();
    let forged =
        json!({"gateway": "test", "incarnation": gateway["incarnation"], "installation": null, "vms": vms});
    let answer =
        stack.control_plane.call(Call::post("/gateway/v1/enforced", &forged).bearer(&forger)).await.unwrap();
    assert_eq!((answer.status, answer.problem_code().as_deref()), (403, Some("gateway_of_other_token")));
    check(&stack, &Row { state: "forged", ..silent }).await.unwrap();
    let forged = Row { state: "forged, as doctor counts it", doctor: "gateway_of_other_token: 1", ..silent };
    check(&stack, &forged).await.unwrap();
    let tokens = stack.control_plane.list("/v1/tokens").await.unwrap();
    let counted = tokens.iter().find(|token| token["name"] == "forger").unwrap();
    assert_eq!(counted["gateway_requests"], json!({"polls": 0, "refused": 1}));

    stack.envoy.process().resume().unwrap();
    stack.in_step().await.unwrap();
    check(&stack, &healthy("connected again")).await.unwrap();
}

/// A token that invents a gateway, and a version that was never published: no gateway receives it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_version_is_not_published() {
    let stack = start().await;
    let forger = stack.control_plane.create_token("forger", "gateway").await.unwrap();
    let list = stack.control_plane.get("/v1/gateways").await.unwrap();
    let (gateway, published) = (&list["items"][0], list["version"].as_u64().unwrap());
    let poll = json!({
        "gateway": "invented", "incarnation": gateway["incarnation"], "filter_version": "1", "snapshot_format": 1,
        "installation": null, "version": 0, "wait_ms": 0, "clock": published, "vms": [],
    });
    let image =
        stack.control_plane.call(Call::post("/gateway/v1/poll", &poll).bearer(&forger)).await.unwrap();
    let installation = Manifest::decode(&image.body).unwrap().installation;
    let forged = |lead_ms: u64| {
        let mut poll = poll.clone();
        poll["installation"] = json!(installation);
        poll["version"] = json!(published + lead_ms);
        poll["vms"] = json!([{"id": "0000000000000001", "version": published + lead_ms}]);
        Call::post("/gateway/v1/poll", &poll).bearer(&forger)
    };
    for lead_ms in [1_000 * 60 * 30, 1_000 * 60 * 60 * 23] {
        let answer = stack.control_plane.call(forged(lead_ms)).await.unwrap();
        assert_eq!((answer.status, answer.problem_code().as_deref()), (409, Some("version_not_published")));
    }
    let after = stack.control_plane.get("/v1/gateways").await.unwrap();
    assert_eq!(after["version"], published, "nothing was published for it");
    let ahead = Row {
        state: "version not published",
        exit_code: 3,
        answer: "rejected: version not published",
        doctor: "which this control plane has not published",
        console: "rejected: version not published",
    };
    let checked = async {
        let (_, took) = check(&stack, &ahead).await.unwrap();
        assert!(took < AT_ONCE, "it waits for nobody: {took:?}");
        check(&stack, &Row { doctor: "version_not_published: ", ..ahead }).await.unwrap();
    };
    let polls = async {
        loop {
            stack.control_plane.call(forged(1_000 * 60 * 30)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::select! {
        () = checked => {}
        () = polls => {}
    }
    // The page of the console that removes a gateway.
    let id = format!("invented/{}", gateway["incarnation"].as_str().unwrap());
    remove_by_console(&stack, &id, "invented").await.unwrap();
    check(&stack, &healthy("removed in the console")).await.unwrap();
}
