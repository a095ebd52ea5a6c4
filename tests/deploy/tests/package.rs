//! The Debian package: its files, and installation, upgrade, removal and purge in a folder as the root of a system.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use omniflow_deploy_tests::debian::{SystemRoot, build, output, rebuild};
use omniflow_deploy_tests::{deploy, tool};
use omniflow_harness::ports::Port;
use omniflow_harness::process::Process;
use omniflow_harness::{Call, client, eventually, omf_command, paths};
use serde_json::json;

const WAIT: Duration = Duration::from_secs(30);
const CONFIGURATION: &str = "etc/omniflow/omf.toml";

/// Files of the package that are not manual pages.
const FILES: [&str; 16] = [
    "etc/omniflow/omf.toml",
    "usr/bin/omf",
    "usr/lib/omniflow/omniflow_filter.wasm",
    "usr/lib/systemd/system/omf.service",
    "usr/lib/sysusers.d/omniflow-keys.conf",
    "usr/lib/tmpfiles.d/omniflow-keys.conf",
    "usr/share/bash-completion/completions/omf",
    "usr/share/doc/omniflow-keys/README.Debian",
    "usr/share/doc/omniflow-keys/changelog.Debian.gz",
    "usr/share/doc/omniflow-keys/changelog.gz",
    "usr/share/doc/omniflow-keys/copyright",
    "usr/share/doc/omniflow-keys/examples/envoy.yaml",
    "usr/share/doc/omniflow-keys/omf.cdx.json.gz",
    "usr/share/doc/omniflow-keys/omniflow-filter.cdx.json.gz",
    "usr/share/fish/vendor_completions.d/omf.fish",
    "usr/share/zsh/vendor-completions/_omf",
];

/// The manual pages that `omf man` writes.
fn manual_pages(folder: &Path) -> Vec<PathBuf> {
    output(omf_command().unwrap().arg("man").arg(folder)).unwrap();
    let mut pages: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.sort();
    pages
}

fn lint(pages: &[PathBuf]) -> String {
    let output = tool("mandoc").unwrap().args(["-T", "lint", "-W", "warning"]).args(pages).output().unwrap();
    let problems = String::from_utf8(output.stdout).unwrap();
    // The pages have a version instead.
    problems.lines().filter(|line| !line.contains("missing date")).collect::<Vec<_>>().join("\n")
}

#[test]
fn manual_pages_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    let pages = manual_pages(&folder.path().join("man1"));
    assert!(pages.len() > 40, "{pages:?}");
    assert_eq!(lint(&pages), "");

    let broken = folder.path().join("broken.1");
    let page = fs::read_to_string(&pages[0]).unwrap();
    fs::write(&broken, page.replacen(".SH NAME", ".SH NAME\n.unknown", 1)).unwrap();
    assert!(lint(&[broken]).contains("unknown"));
}

#[test]
fn package_is_complete_and_reproducible() {
    let folder = tempfile::tempdir().unwrap();
    let package = build(&folder.path().join("first")).unwrap();
    let again = build(&folder.path().join("second")).unwrap();
    assert!(fs::read(&package).unwrap() == fs::read(&again).unwrap(), "{package:?} and {again:?} differ");

    let contents = output(Command::new("dpkg-deb").arg("--contents").arg(&package)).unwrap();
    let column =
        |number: usize| contents.lines().map(move |line| line.split_whitespace().nth(number).unwrap());
    assert_eq!(column(1).collect::<BTreeSet<_>>(), BTreeSet::from(["root/root"]));
    assert_eq!(column(3).chain(column(4)).collect::<BTreeSet<_>>().len(), 2, "one date and one time");
    let names = column(5).filter_map(|name| name.strip_prefix("./"));
    let files: BTreeSet<String> =
        names.filter(|name| !name.is_empty() && !name.ends_with('/')).map(str::to_owned).collect();
    let pages = manual_pages(&folder.path().join("man1")).into_iter();
    let pages = pages.map(|page| format!("usr/share/man/man1/{}.gz", page.file_name().unwrap().display()));
    assert_eq!(files, FILES.map(str::to_owned).into_iter().chain(pages).collect());

    let field = |name: &str| output(Command::new("dpkg-deb").arg("--field").arg(&package).arg(name)).unwrap();
    assert!(field("Depends").starts_with("libc6 (>= 2."), "{}", field("Depends"));
    let version = output(omf_command().unwrap().arg("--version")).unwrap();
    assert_eq!(field("Version").trim(), format!("{}-1", version.trim().strip_prefix("omf ").unwrap()));
}

/// A running `omf serve` with the program and the configuration of the package.
struct Service {
    process: Process,
    port: Port,
    token: PathBuf,
    omf: PathBuf,
}

impl Service {
    async fn start(root: &SystemRoot, log: &str) -> Self {
        let port = Port::reserve().unwrap();
        let (omf, data) = (root.path("usr/bin/omf"), root.path("var/lib/omniflow"));
        let mut words = root.run_as("omniflow").unwrap();
        words.extend([omf.display().to_string(), "serve".to_owned()]);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("--config").arg(root.path(CONFIGURATION)).arg("--data-dir").arg(&data);
        command.arg("--listen").arg(client::local(port.number()).to_string()).env_remove("OMF_ROOT");
        let process = Process::spawn("omf", &mut command, &root.path("..").join(log)).unwrap();
        eventually(WAIT, || async {
            let ready = client::call(port.number(), Call::get("/readyz")).await?;
            anyhow::ensure!(ready.status == 200, "{}", process.log_end(5));
            Ok(())
        })
        .await
        .unwrap();
        Self { process, port, token: data.join("admin-token"), omf }
    }

    fn command(&self, words: &[&str]) -> String {
        let mut command = Command::new(&self.omf);
        command.args(words).env("OMF_URL", format!("http://{}", client::local(self.port.number())));
        output(command.env("OMF_TOKEN_FILE", &self.token)).unwrap()
    }

    fn stop(self) {
        assert!(self.process.stop(WAIT).unwrap().success());
    }
}

fn status(root: &SystemRoot) -> String {
    let output = root.dpkg(["--status", "omniflow-keys"]).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Runs dpkg, which must succeed, and returns what it prints.
fn dpkg(root: &SystemRoot, arguments: &[&str]) -> String {
    let output = root.dpkg(arguments).unwrap();
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "dpkg {arguments:?}: {messages}");
    String::from_utf8(output.stdout).unwrap() + &messages
}

/// The package of an earlier release, which has another default configuration and another filter.
fn earlier(package: &Path, folder: &Path) -> PathBuf {
    rebuild(package, folder, |tree| {
        let control = fs::read_to_string(tree.join("DEBIAN/control"))?;
        let line = control.lines().find(|line| line.starts_with("Version: ")).unwrap();
        fs::write(tree.join("DEBIAN/control"), control.replace(line, "Version: 0.0.9-1"))?;
        fs::write(tree.join(CONFIGURATION), "data_dir = \"/var/lib/omniflow\"\n")?;
        fs::write(tree.join("usr/lib/omniflow/omniflow_filter.wasm"), "earlier")?;
        Ok(())
    })
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn package_is_installed_upgraded_removed_and_purged() {
    let folder = tempfile::tempdir().unwrap();
    let package = build(folder.path()).unwrap();
    let old = earlier(&package, folder.path());
    let root = SystemRoot::new().unwrap();
    dpkg(&root, &["--install", old.to_str().unwrap()]);
    let mode = |path: &str| fs::metadata(root.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("etc/omniflow"), mode("var/lib/omniflow")), (0o750, 0o700));
    assert!(!root.path("etc/systemd/system/multi-user.target.wants").exists(), "not enabled");
    let check = |data: &str| {
        let mut command = Command::new(root.path("usr/bin/omf"));
        command.args(["config", "check", "--config"]).arg(root.path(CONFIGURATION));
        output(command.arg("--data-dir").arg(root.path(data))).unwrap()
    };
    assert!(check("var/lib/omniflow").contains("data_dir"));

    // The administrator edits the configuration and creates a key.
    let mine = "data_dir = \"/var/lib/omniflow\"\nrotation_days = 30\n";
    fs::write(root.path(CONFIGURATION), mine).unwrap();
    let service = Service::start(&root, "old.log").await;
    service.command(&[
        "key",
        "create",
        "--name",
        "kept",
        "--environment",
        "live",
        "--scope",
        "contacts:read",
    ]);
    service.stop();

    let said = dpkg(&root, &["--install", package.to_str().unwrap()]);
    assert!(status(&root).contains("Status: install ok installed"), "{said}");
    assert!(!status(&root).contains("Version: 0.0.9-1"), "{}", status(&root));
    assert_eq!(fs::read_to_string(root.path(CONFIGURATION)).unwrap(), mine, "{said}");
    let shipped = fs::read(root.path(&format!("{CONFIGURATION}.dpkg-dist"))).unwrap();
    assert_eq!(shipped, fs::read(deploy("debian/omf.toml")).unwrap());
    let filter = root.path("usr/lib/omniflow/omniflow_filter.wasm");
    assert!(fs::read(filter).unwrap() == fs::read(paths::filter_wasm().unwrap()).unwrap());
    let service = Service::start(&root, "new.log").await;
    let keys: serde_json::Value = serde_json::from_str(&service.command(&["key", "list", "--json"])).unwrap();
    assert_eq!(keys["items"][0]["name"], json!("kept"), "{keys}");
    service.stop();

    dpkg(&root, &["--remove", "omniflow-keys"]);
    assert!(!root.path("usr/bin/omf").exists());
    assert_eq!(fs::read_to_string(root.path(CONFIGURATION)).unwrap(), mine);
    let said = dpkg(&root, &["--purge", "omniflow-keys"]);
    assert!(said.contains("rm -r /var/lib/omniflow"), "{said}");
    assert!(!root.path(CONFIGURATION).exists());
    assert!(
        fs::metadata(root.path("var/lib/omniflow/admin-token")).unwrap().len() > 0,
        "the databases are kept"
    );
}

#[test]
fn default_configuration_is_valid_and_completions_are_scripts() {
    let folder = tempfile::tempdir().unwrap();
    let mut check = omf_command().unwrap();
    check.args(["config", "check", "--json", "--config"]).arg(deploy("debian/omf.toml"));
    let checked = output(check.arg("--data-dir").arg(folder.path())).unwrap();
    assert!(checked.contains("127.0.0.1:8080"), "{checked}");
    let script = folder.path().join("omf");
    fs::write(&script, output(omf_command().unwrap().args(["completions", "bash"])).unwrap()).unwrap();
    output(Command::new("bash").arg("-n").arg(&script)).unwrap();
}
