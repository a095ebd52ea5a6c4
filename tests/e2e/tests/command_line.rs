//! Every command of `omf`, run as a separate process with a real control plane and a real gateway.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use omf::commands;
use omniflow_harness::process::Process;
use omniflow_harness::{Call, Stack, StackOptions, client, eventually, omf_command, ports::Port};
use serde_json::{Value, json};

use crate::support::{self, CONTACTS, contacts, files_with};

/// Runs commands and records which ones.
struct Omf {
    url: String,
    token_file: PathBuf,
    folder: PathBuf,
    run: BTreeSet<String>,
    /// The secrets that were created.
    secrets: Vec<String>,
}

// === impl Omf ===

impl Omf {
    fn new(stack: &Stack) -> Self {
        let folder = stack.folder().join("command-line");
        fs::create_dir(&folder).unwrap();
        Self {
            url: format!("http://127.0.0.1:{}", stack.control_plane.port()),
            token_file: stack.control_plane.folder().join("admin-token"),
            folder,
            run: BTreeSet::new(),
            secrets: Vec::new(),
        }
    }

    /// Runs a command line, whose `words` are separated by single spaces, in a separate folder.
    async fn run(&mut self, words: &str) -> Output {
        self.run_with(words, Stdio::null()).await
    }

    /// Like [`Self::run`], with this standard input.
    async fn run_with(&mut self, words: &str, input: Stdio) -> Output {
        let mut command = self.command(words);
        command.stdin(input);
        support::run(command).await
    }

    /// The same with its standard output in a file.
    fn run_into(&mut self, words: &str, output: fs::File) -> Output {
        let mut command = self.command(words);
        command.stdin(Stdio::null()).stdout(output).stderr(Stdio::piped());
        command.spawn().unwrap().wait_with_output().unwrap()
    }

    fn command(&mut self, words: &str) -> Command {
        let words: Vec<&str> = words.split(' ').collect();
        self.note(&words);
        let mut command = omf_command().unwrap();
        command.args(&words).current_dir(&self.folder);
        command.env("OMF_URL", &self.url).env("OMF_TOKEN_FILE", &self.token_file);
        command
    }

    /// Notes the longest command that these words begin with.
    fn note(&mut self, words: &[&str]) {
        let mut commands = commands::commands();
        commands.retain(|command| words.starts_with(&command.split(' ').collect::<Vec<_>>()));
        let longest = commands.into_iter().max_by_key(String::len);
        self.run.insert(longest.unwrap_or_else(|| panic!("{words:?} is no command")));
    }

    /// Runs a command that must succeed, and returns its output.
    async fn says(&mut self, words: &str) -> String {
        let output = self.run(words).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "omf {words}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    async fn json(&mut self, words: &str) -> Value {
        serde_json::from_str(&self.says(words).await).unwrap()
    }

    /// Runs a command that must fail with this exit code, and returns its error output.
    async fn fails(&mut self, code: i32, words: &str) -> String {
        let output = self.run(words).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "omf {words}: {said}");
        said
    }
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}

async fn status_of(stack: &Stack, secret: &str) -> u16 {
    stack.in_step().await.unwrap();
    stack.call(contacts(secret)).await.unwrap().status
}

async fn keys(omf: &mut Omf, stack: &Stack) {
    let create = "key create --environment live --scope contacts:read --per-minute 6000";
    let secret = omf.says(&format!("{create} --name printed")).await;
    assert_eq!(status_of(stack, secret.trim_end()).await, 200);
    // Alone on standard output: what a secret manager is given has no end of line.
    let bare = omf.says(&format!("{create} --name bare --output-file -")).await;
    assert_eq!(bare.trim_end(), bare);
    assert_eq!(status_of(stack, &bare).await, 200);
    let answer = omf.json(&format!("{create} --name filed --output-file secret --json")).await;
    assert_eq!((answer["key"]["name"].as_str(), answer.get("secret")), (Some("filed"), None));
    let filed = read(&omf.folder, "secret");
    assert_eq!(status_of(stack, &filed).await, 200);
    let said = omf.fails(1, &format!("{create} --name lost --output-file secret")).await;
    assert!(said.contains("none was requested"), "{said}");
    assert!(omf.fails(1, "key show lost").await.contains("not_found"), "no key was made");
    omf.fails(1, &format!("{create} --name filed --output-file other")).await;
    assert!(!omf.folder.join("other").exists(), "a call that fails leaves no file");
    omf.fails(2, "key create --name nothing").await;

    let changed =
        omf.json("key update filed --per-minute 7000 --description nightly --if-match 1 --json").await;
    assert_eq!((&changed["rate_limit"]["per_minute"], &changed["revision"]), (&json!(7000), &json!(2)));
    let said = omf.fails(1, "key update filed --description other --if-match 1").await;
    assert!(said.contains("version_mismatch"), "{said}");
    let said = omf.fails(1, "key update filed --description other --if-match 1 --json").await;
    let problem: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&problem["code"], &problem["status"]), (&json!("version_mismatch"), &json!(412)));

    let rotated = omf.says("key rotate filed --overlap 0s --output-file -").await;
    assert_eq!(status_of(stack, &rotated).await, 200);
    assert_eq!(status_of(stack, &filed).await, 401);
    assert!(omf.says("key list --q filed").await.contains("filed"));
    assert_eq!(omf.json("key show filed --json").await["versions"].as_array().unwrap().len(), 2);
    assert!(omf.says("key revoke filed --wait 5s").await.contains("filed is revoked"));
    assert_eq!(status_of(stack, &rotated).await, 401);
    for secret in [secret.trim_end(), &bare, &filed, &rotated] {
        omf.secrets.push(secret.to_owned());
    }
}

async fn leaks(omf: &mut Omf, stack: &Stack) {
    let create = "key create --environment live --scope contacts:read --name";
    let secret = omf.says(&format!("{create} spilt --output-file spilt")).await;
    assert_eq!(secret, "");
    let secret = read(&omf.folder, "spilt");
    assert_eq!(status_of(stack, &secret).await, 200);
    fs::write(omf.folder.join("paste"), format!("KEY={secret}\nomf_live_{}\n", "x".repeat(30))).unwrap();
    let said = omf.says("key leaked --scan paste --dry-run").await;
    assert!(said.contains("spilt leaked: version 1 (active). Nothing was changed."), "{said}");
    assert!(said.contains("Truncated or mistyped keys in the text: 1."), "{said}");
    assert_eq!(status_of(stack, &secret).await, 200);

    let input = fs::File::open(omf.folder.join("spilt")).unwrap();
    let output = omf.run_with("key leaked --replace --output-file successor", input.into()).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("It is revoked; refused by 1 of 1 gateway after"), "{said}");
    assert!(said.contains("spilt-2 replaces it"), "{said}");
    let successor = read(&omf.folder, "successor");
    assert!(!said.contains(&secret) && !said.contains(&successor), "{said}");
    assert_eq!((status_of(stack, &secret).await, status_of(stack, &successor).await), (401, 200));

    let third = named_secrets(omf, &successor).await;
    assert_eq!(status_of(stack, &third).await, 200);
    let digest = omniflow_policy::digest::Digest::of(third.as_bytes()).to_hex();
    let answer = omf.json(&format!("key leaked --digest {digest} --version-only --json")).await;
    assert_eq!(
        (&answer["keys"][0]["key"]["name"], &answer["keys"][0]["revoked"]),
        (&json!("spilt-3"), &json!(true))
    );
    let output = omf.run(&format!("key leaked --digest {}", "0".repeat(64))).await;
    let unknown = String::from_utf8(output.stderr).unwrap();
    assert!(unknown.starts_with("omf: no key matches this secret, so nothing was revoked."), "{unknown}");
    assert_eq!((output.status.code(), output.stdout), (Some(1), Vec::new()), "nothing was found to report");
    omf.fails(2, "key leaked --scan paste --digest x").await;
    omf.fails(2, "key leaked --digest x --output-file y").await;
    for secret in [secret, successor, third] {
        omf.secrets.push(secret);
    }
}

/// Replaces the keys of a text, whose new secrets have names, and are in no file that others can read. Returns the secret of
/// `spilt-3`.
async fn named_secrets(omf: &mut Omf, successor: &str) -> String {
    let create = "key create --environment live --scope contacts:read --name";
    let other = omf.says(&format!("{create} other")).await;
    fs::write(omf.folder.join("paste"), format!("{successor} {successor} {other}")).unwrap();
    let open = omf.folder.join("open");
    fs::write(&open, "").unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    for line in [
        "key leaked --scan paste --replace",
        "key create --environment live --scope contacts:read --name open",
    ] {
        let output = omf.run_into(line, fs::OpenOptions::new().append(true).open(&open).unwrap());
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && error.contains("mode 644") && error.contains("--output-file"),
            "{error}"
        );
    }
    assert_eq!(fs::metadata(&open).unwrap().len(), 0);
    omf.fails(1, "key show open").await;

    let said = omf.says("key leaked --scan paste --replace --output-file replacements").await;
    assert_eq!(fs::metadata(omf.folder.join("replacements")).unwrap().permissions().mode() & 0o777, 0o600);
    let written = read(&omf.folder, "replacements");
    let mut secrets: Vec<(&str, &str)> = written.lines().map(|line| line.split_once('\t').unwrap()).collect();
    secrets.sort_unstable();
    assert_eq!(secrets.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["other-2", "spilt-3"]);
    assert!(secrets.iter().all(|(_, secret)| !said.contains(secret)), "{said}");
    omf.secrets.extend([other.trim_end().to_owned(), secrets[0].1.to_owned()]);
    secrets[1].1.to_owned()
}

async fn tokens(omf: &mut Omf) {
    omf.says("token create --name review --role auditor --output-file token").await;
    assert!(read(&omf.folder, "token").starts_with("omf_"));
    assert!(omf.says("token list").await.contains("review"));
    assert!(omf.says("doctor --token-file token").await.contains("with the role auditor"));
    omf.says("token create --name second --role admin --output-file admin").await;
    assert!(omf.says("doctor --token-file admin").await.contains("with the role admin"));
    omf.says("token revoke review").await;
    let said = omf.fails(1, "policy show --token-file token").await;
    assert!(said.contains("not valid for this control plane"), "{said}");

    for file in ["token", "admin"] {
        let token = read(&omf.folder, file);
        omf.secrets.push(token);
    }
}

async fn policy(omf: &mut Omf, stack: &Stack) {
    let document = omf.says("policy show --json").await;
    fs::write(omf.folder.join("policy.json"), document).unwrap();
    assert!(omf.says("policy set policy.json --wait 5s").await.starts_with("Version 1 is effective"));
    assert!(omf.says("policy diff policy.json").await.contains("No difference"));
    let toml = omf.says("policy show --toml").await;
    let moved = toml.replace("/api/v1/agents", "/api/v1/people");
    fs::write(omf.folder.join("policy.toml"), format!("imported_keys = true\n{moved}")).unwrap();
    let diff = omf.says("policy diff policy.toml").await;
    assert!(
        diff.contains("~ imported_keys: false -> true") && diff.contains("- route read /api/v1/agents"),
        "{diff}"
    );
    let evaluate = "policy explain --key printed GET /api/v1/contacts";
    assert!(omf.says(evaluate).await.starts_with("allowed"));
    assert!(
        omf.says(&format!("{evaluate} --draft policy.toml --source-ip ::1 --calls-before 6000"))
            .await
            .contains("rate_limited")
    );
    assert!(omf.says("policy explain --secret-file secret GET /x").await.contains("key_revoked"));
    // Not with the options that the environment sets.
    let usage = omf.fails(2, "policy explain").await;
    assert!(usage.contains("Usage: omf policy explain <METHOD> <PATH>\n"), "{usage}");
    assert!(omf.says("policy set policy.toml --wait 5s --if-match 1").await.starts_with("Version 2"));
    assert!(omf.says("policy versions").await.contains("first start"));
    assert!(omf.says("policy replay policy.json").await.contains("would be newly refused"));
    fs::write(omf.folder.join("bad.toml"), toml.replacen("path = \"/api", "path = \"api", 1)).unwrap();
    let said = omf.fails(1, "policy set bad.toml").await;
    let line = toml.lines().position(|line| line.starts_with("path")).unwrap() + 1;
    assert!(said.contains(&format!("bad.toml: line {line}: /routes/0/path")), "{said}");

    // A key of another system keeps working.
    let foreign = "sk_live_4eC39HqLyjWDarjtT1zdp7dc";
    fs::write(omf.folder.join("foreign"), format!("{foreign}\n")).unwrap();
    assert_eq!(status_of(stack, foreign).await, 401);
    let import = "key import --name foreign --environment live --scope contacts:read --secret-file foreign --hint p7dc";
    assert!(omf.says(import).await.contains("p7dc"));
    assert_eq!(status_of(stack, foreign).await, 200);
    assert!(omf.fails(1, &import.replace("name foreign", "name again")).await.contains("digest_taken"));

    let said = omf.fails(1, "policy rollback 1 --wait 5s").await;
    assert!(said.contains("foreign") && said.contains("imports_in_use"), "{said}");
    assert!(omf.says("policy diff policy.json").await.contains("Cannot be published: Without imported_keys"));
    omf.says("key revoke foreign --wait 5s").await;
    assert!(omf.says("policy rollback 1 --wait 5s").await.starts_with("Version 3"));
    assert_eq!(status_of(stack, foreign).await, 401, "imported keys are not taken any more");
    omf.secrets.push(foreign.to_owned());
    let events = omf.says("admin-log --limit 500").await;
    for action in [
        "policy.rolled_back",
        "policy.set",
        "key.imported",
        "key.revoked",
        "token.created",
        "installation.created",
    ] {
        assert!(events.contains(action), "{action}: {events}");
    }
    assert_eq!(omf.json("admin-log --subject foreign --json").await["items"].as_array().unwrap().len(), 2);
}

async fn what_is_seen(omf: &mut Omf, stack: &Stack) {
    assert!(omf.says("gateway list").await.contains("live"));
    eventually(std::time::Duration::from_secs(10), || async {
        let records = stack.control_plane.audit("key=printed").await?;
        anyhow::ensure!(!records.is_empty(), "no record yet");
        Ok(())
    })
    .await
    .unwrap();
    assert!(omf.says("audit --key printed").await.contains(CONTACTS));
    assert_eq!(omf.json("audit gaps --limit 5 --json").await["items"], serde_json::json!([]));
    assert_eq!(omf.json("audit in-progress --key ci --json").await["items"], serde_json::json!([]));
    let stats = omf.says("audit stats --by key,status --key printed").await;
    assert!(stats.contains("(printed)") && stats.contains("total"), "{stats}");
    let exported = omf.says("audit export --key printed").await;
    let first: Value = serde_json::from_str(exported.lines().next().unwrap()).unwrap();
    assert_eq!((&first["key_name"], &first["path"]), (&json!("printed"), &json!(CONTACTS)));
    let csv = omf.says("audit export --key printed --format csv").await;
    assert_eq!(csv.lines().count(), exported.lines().count() + 1);
    assert!(csv.starts_with("id,time,") && csv.contains(",printed,"), "{csv}");
    assert!(omf.says("audit tail --after 0 --count 1 --key printed").await.contains(CONTACTS));
    assert_eq!(
        omf.json("anomalies --key printed --kind volume_spike --json").await["items"],
        serde_json::json!([])
    );
    omf.fails(2, "anomalies --kind odd").await;
    omf.fails(1, "audit tail --status none").await;
    omf.fails(2, "audit --key printed gaps").await;
    assert!(omf.says("completions bash").await.contains("complete"));
    assert_eq!(omf.says("man pages").await, "");
    for command in commands::commands() {
        let page = format!("omf-{}.1", command.replace(' ', "-"));
        assert!(fs::metadata(omf.folder.join("pages").join(&page)).unwrap().len() > 0, "{page}");
    }
    omf.fails(1, "man pages/omf.1").await;
    let checked = omf.json("config check --data-dir served --json").await;
    assert!(checked.to_string().contains("data_dir"), "{checked}");
}

async fn payloads(omf: &mut Omf, stack: &Stack) {
    let key = stack.live_key("sender", &["contacts:read"]).await.unwrap();
    stack.call(Call::get(&format!("{CONTACTS}?q=42")).header("x-api-key", &key.secret)).await.unwrap();
    let record = eventually(std::time::Duration::from_secs(10), || async {
        let records = stack.control_plane.audit("key=sender").await?;
        anyhow::ensure!(records.len() == 1, "no record yet");
        Ok(records[0]["id"].as_str().unwrap_or_default().to_owned())
    })
    .await
    .unwrap();
    assert!(omf.fails(1, &format!("audit payload {record}")).await.contains("forbidden"));
    omf.says("token create --name reader --role auditor --output-file auditor").await;
    assert!(omf.says("audit rotate-payload-key").await.contains("Re-encrypted data keys: 1."));
    let shown = omf.says(&format!("audit payload {record} --token-file auditor")).await;
    assert!(shown.contains("q=42") && shown.contains("whole"), "{shown}");
    omf.fails(1, "audit rotate-payload-key --token-file auditor").await;
    omf.fails(2, "audit payload x").await;
    for secret in [key.secret, read(&omf.folder, "auditor")] {
        omf.secrets.push(secret);
    }
}

async fn gateways(omf: &mut Omf, stack: &Stack) {
    assert!(omf.fails(1, "gateway remove edge/0000000000000001").await.contains("not_found"));
    let id = omf.json("gateway list --json").await["items"][0]["id"].as_str().unwrap().to_owned();
    omf.says(&format!("gateway remove {id}")).await;
    assert!(omf.says("admin-log --action gateway.removed").await.contains("gateway.removed"));
    // It still runs, so it is listed again after its next poll.
    stack.in_step().await.unwrap();
}

async fn doctor(omf: &mut Omf, stack: &Stack) {
    let gateway = format!("http://127.0.0.1:{}", stack.envoy.port());
    let said = omf.says(&format!("doctor --gateway {gateway}")).await;
    for check in ["control plane", "ready", "with the role owner", "connected and in step", "refuses a call"]
    {
        assert!(said.contains(check), "{check}: {said}");
    }
    assert!(!said.contains("failure"), "{said}");
    // An upstream in place of the gateway accepts all requests.
    let upstream = format!("http://127.0.0.1:{}", stack.live.port());
    let output = omf.run(&format!("doctor --json --gateway {upstream}")).await;
    assert_eq!(output.status.code(), Some(1));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["healthy"], false);
    let filter =
        answer["checks"].as_array().unwrap().iter().find(|check| check["check"] == "filter").unwrap();
    assert_eq!(filter["level"], "failure", "{filter}");
    let said = omf.run("doctor --url http://127.0.0.1:1").await;
    assert!(String::from_utf8_lossy(&said.stdout).contains("is it running?"), "{said:?}");
}

/// `omf serve` itself: the other commands already need it running.
async fn serve(omf: &mut Omf) {
    let port = Port::reserve().unwrap();
    let words = ["serve", "--data-dir", "served", "--listen", &format!("127.0.0.1:{}", port.number())];
    omf.note(&words);
    let mut command = omf_command().unwrap();
    command.args(words).current_dir(&omf.folder);
    let process = Process::spawn("omf serve", &mut command, &omf.folder.join("serve.log")).unwrap();
    eventually(std::time::Duration::from_secs(20), || async {
        let ready = client::call(port.number(), Call::get("/readyz")).await?;
        anyhow::ensure!(ready.status == 200, "{}", ready.text());
        Ok(())
    })
    .await
    .unwrap();
    assert!(process.stop(std::time::Duration::from_secs(10)).unwrap().success());
}

async fn databases(omf: &mut Omf, stack: &Stack) {
    let data = stack.control_plane.folder().display().to_string();
    assert!(omf.says(&format!("db backup copy --data-dir {data}")).await.contains("omniflow.db"));
    // A name that SQLite would take for a URI.
    omf.says(&format!("db backup file:b?x=1 --data-dir {data}")).await;
    assert!(omf.folder.join("file:b?x=1/backup.json").is_file());
    assert!(omf.fails(1, &format!("db backup copy --data-dir {data}")).await.contains("already exists"));
    let said = omf.fails(1, &format!("db backup missing/copy --data-dir {data}")).await;
    assert_eq!(said, "omf: missing is not a directory; create it or choose another destination\n");
    let said = omf.fails(1, "db backup other --data-dir nowhere").await;
    assert!(said.contains("nowhere does not contain omniflow.db"), "{said}");
    // The folder of the databases is the one that omf serve would take.
    fs::write(omf.folder.join("omf.toml"), "data_dir = \"restored\"\n").unwrap();
    let said = omf.says("db restore copy --config omf.toml").await;
    assert!(
        said.contains("restored now contains installation") && said.contains("revoke them again"),
        "{said}"
    );
    assert!(said.contains("such as admin-token in the data directory that was backed up"), "{said}");
    omf.says("db backup again --config omf.toml").await;
    assert!(omf.fails(1, "db restore copy --data-dir restored").await.contains("--replace"));
    assert!(omf.fails(1, "db restore policy.json --data-dir x").await.contains("is not a backup"));
    assert!(omf.fails(1, "token recover --data-dir nowhere").await.contains("contains no"));
    let recovered = omf.says("token recover --data-dir restored").await.trim().to_owned();
    assert!(recovered.starts_with("omf_token_"), "a token, and nothing else");
    omf.secrets.push(recovered);
}

#[tokio::test]
async fn every_command_does_its_work() {
    let stack = Stack::start(StackOptions::workers(1)).await.unwrap();
    let mut omf = Omf::new(&stack);
    keys(&mut omf, &stack).await;
    leaks(&mut omf, &stack).await;
    tokens(&mut omf).await;
    policy(&mut omf, &stack).await;
    what_is_seen(&mut omf, &stack).await;
    payloads(&mut omf, &stack).await;
    doctor(&mut omf, &stack).await;
    gateways(&mut omf, &stack).await;
    databases(&mut omf, &stack).await;
    serve(&mut omf).await;
    let all: BTreeSet<String> = commands::commands().into_iter().collect();
    let left: Vec<&String> = all.difference(&omf.run).collect();
    assert!(left.is_empty(), "no test runs these: {left:?}");
    // All files written during the run: logs of all processes, databases with their logs, backups.
    omf.secrets.push(stack.control_plane.admin_token().to_owned());
    let meant = [
        "secret",
        "token",
        "admin",
        "auditor",
        "foreign",
        "admin-token",
        "spilt",
        "paste",
        "successor",
        "replacements",
    ];
    for secret in &omf.secrets {
        let mut found = files_with(stack.folder(), secret);
        found.retain(|path| !meant.contains(&path.file_name().unwrap().to_str().unwrap()));
        assert!(found.is_empty(), "a secret is in {found:?}");
    }
    assert_eq!(omf.secrets.len(), 16);
}
