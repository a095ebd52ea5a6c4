//! A shell that runs the commands of a page, in a folder that looks like a checkout after `make build envoy`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use omniflow_harness::ports::Port;
use omniflow_harness::process::Process;
use omniflow_harness::{Call, client, eventually, paths};
use tempfile::TempDir;

use super::page::Page;

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(20);
/// Seconds that the commands of one page may take.
const MOST_SECONDS: &str = "120";
/// The ports that pages name: control plane, Envoy, its admin interface, the reader's service, and a second control plane.
const NAMED: [u16; 5] = [8080, 10_000, 9901, 8081, 8089];

/// The output of `make run`.
const DEMO_LOG: &str = "demo.log";
/// The output of the commands.
const OUTPUT: &str = "output";

/// Output goes to a file, where `curl` would show its progress.
const CURL_CONFIGURATION: &str = "no-progress-meter\n";
/// Hot restarts would share memory with every other Envoy on this machine.
const ENVOY: &str = "#!/bin/bash\nexec REAL_ENVOY --disable-hot-restart \"$@\"\n";
/// Ends what the commands leave behind.
const PRELUDE: &str = "trap 'kill $(jobs -p) 2>/dev/null' EXIT\n";

/// The processes that must run before the commands of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    /// `make run`.
    Demo,
    /// Nothing: the page starts all of it.
    Nothing,
}

/// A folder in which commands run.
pub(super) struct Shell {
    folder: TempDir,
    /// What is in the folder before the commands run.
    tracked: BTreeSet<String>,
    ports: [Port; NAMED.len()],
}

// === impl Shell ===

impl Shell {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = std::array::from_fn(|_| Port::reserve().unwrap());
        let mut shell = Self { folder, tracked: BTreeSet::new(), ports };
        let root = shell.folder.path();
        for inner in ["target/release", "target/wasm32-wasip1/wasm", ".tools/bin", "envoy", "home"] {
            fs::create_dir_all(root.join(inner)).unwrap();
        }
        let filter = root.join("target/wasm32-wasip1/wasm/omniflow_filter.wasm");
        symlink(paths::filter_wasm().unwrap(), filter).unwrap();
        for name in ["scripts", "deploy", ".tools/bin/helm"] {
            symlink(paths::root().join(name), root.join(name)).unwrap();
        }
        let configuration = fs::read_to_string(paths::configuration("operator.yaml")).unwrap();
        fs::write(
            root.join("envoy/operator.yaml"),
            configuration.replace("9901", &shell.port(2).to_string()),
        )
        .unwrap();
        symlink(paths::omf().unwrap(), root.join("target/release/omf")).unwrap();
        fs::write(root.join("home/.curlrc"), CURL_CONFIGURATION).unwrap();
        let envoy = root.join(".tools/bin/envoy");
        fs::write(&envoy, ENVOY.replace("REAL_ENVOY", &paths::envoy().unwrap().display().to_string()))
            .unwrap();
        fs::set_permissions(&envoy, fs::Permissions::from_mode(0o755)).unwrap();
        for own in [DEMO_LOG, OUTPUT] {
            fs::write(root.join(own), "").unwrap();
        }
        shell.tracked = shell.entries();
        shell
    }

    fn entries(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// What the commands left in the folder and Git does not ignore, so it could be committed by mistake.
    pub(super) fn untracked(&self) -> Vec<String> {
        let rules = fs::read_to_string(paths::root().join(".gitignore")).unwrap();
        let ignored: BTreeSet<&str> =
            rules.lines().map(|rule| rule.trim_start_matches('/').trim_end_matches('/')).collect();
        let entries = self.entries();
        entries.difference(&self.tracked).filter(|name| !ignored.contains(name.as_str())).cloned().collect()
    }

    fn port(&self, number: usize) -> u16 {
        self.ports[number].number()
    }

    /// `make run` in this folder.
    pub(super) async fn demo(&self) -> Process {
        let root = self.folder.path();
        let (live, test) = (Port::reserve().unwrap(), Port::reserve().unwrap());
        let mut demo = Command::new(paths::omf().unwrap().with_file_name("omniflow-demo"));
        demo.current_dir(root).env("OMF_RUN_DIR", root.join(".run"));
        for (variable, port) in [
            ("OMF_PORT", self.port(0)),
            ("OMF_ENVOY_PORT", self.port(1)),
            ("OMF_ENVOY_ADMIN_PORT", self.port(2)),
            ("OMF_UPSTREAM_LIVE_PORT", live.number()),
            ("OMF_UPSTREAM_TEST_PORT", test.number()),
        ] {
            demo.env(variable, port.to_string());
        }
        let demo = Process::spawn("make run", &mut demo, &root.join(DEMO_LOG)).unwrap();
        eventually(START, || async {
            ensure!(demo.log().contains("Ctrl-C stops everything"), "{}", demo.log_end(30));
            let response = client::call(self.port(1), Call::get("/")).await?;
            ensure!(response.status == 401, "{}", response.status);
            Ok(())
        })
        .await
        .unwrap();
        demo
    }

    /// Runs the commands of a page in one shell. Returns the exit status and the output of each block.
    pub(super) async fn run(&self, page: &Page) -> Vec<(String, String)> {
        let mut script = PRELUDE.to_owned();
        for block in &page.blocks {
            script += &format!("{}\nprintf '\\n\\x1e%s\\x1f' $?\n", self.with_own_ports(&block.commands));
        }
        let output = self.folder.path().join(OUTPUT);
        let mut shell = Command::new("timeout");
        shell.args([MOST_SECONDS, "bash", "-c", &script]).current_dir(self.folder.path());
        for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("OMF_")) {
            shell.env_remove(variable);
        }
        shell.env("HOME", self.folder.path().join("home"));
        shell.env("OMF_URL", format!("http://127.0.0.1:{}", self.port(0)));
        shell.env("OMF_LISTEN", format!("127.0.0.1:{}", self.port(0)));
        // Not a pipe, which would stay open as long as a leftover process is running.
        let file = fs::File::create(&output).unwrap();
        shell.stdout(file.try_clone().unwrap()).stderr(file);
        tokio::task::spawn_blocking(move || shell.status().unwrap()).await.unwrap();
        let text = self.with_named_ports(&String::from_utf8_lossy(&fs::read(&output).unwrap()));
        let mut outputs: Vec<(String, String)> = Vec::new();
        let mut rest = text.as_str();
        while let Some((printed, (status, tail))) = rest
            .split_once("\n\u{1e}")
            .and_then(|(printed, tail)| Some((printed, tail.split_once('\u{1f}')?)))
        {
            outputs.push((status.to_owned(), printed.to_owned()));
            rest = tail;
        }
        outputs.resize(page.blocks.len(), ("none: it did not end".to_owned(), rest.to_owned()));
        outputs
    }

    fn with_own_ports(&self, text: &str) -> String {
        self.replaced(text, |number, own| (number.to_string(), own.to_string()))
    }

    fn with_named_ports(&self, text: &str) -> String {
        let folder = self.folder.path().display().to_string();
        self.replaced(text, |number, own| (own.to_string(), number.to_string())).replace(&folder, ".")
    }

    /// Replaces each port number that is used as a port.
    fn replaced(&self, text: &str, pair: impl Fn(u16, u16) -> (String, String)) -> String {
        let mut text = text.to_owned();
        for (number, port) in NAMED.iter().zip(&self.ports) {
            let (from, to) = pair(*number, port.number());
            for before in ["127.0.0.1:", "127.0.0.1, port_value: ", "http.server "] {
                text = text.replace(&format!("{before}{from}"), &format!("{before}{to}"));
            }
            // The place of the listener in the configuration for operators.
            let listener = "address: 0.0.0.0, port_value: ";
            text = text.replace(&format!("{listener}{to}"), &format!("{listener}{from}"));
        }
        text
    }
}

/// Stops `make run`, which ends with an error if the commands have ended its Envoy.
pub(super) fn stop(demo: &Process, ends: bool) {
    let status = if ends { demo.wait(STOP) } else { demo.stop(STOP).ok() };
    assert_eq!(status.map(|status| status.success()), Some(!ends), "{}", demo.log_end(10));
}
