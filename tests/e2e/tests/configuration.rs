//! The settings of `omf serve`: their sources, and the output of `omf config check`.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use omniflow_harness::control_plane::ControlPlaneOptions;
use omniflow_harness::ports::Port;
use omniflow_harness::{ControlPlane, omf_command};
use serde_json::Value;

use crate::certificates::{Authority, write_secret};

const GOOD: &str = r#"# A comment.
listen = "127.0.0.1:8443"
data_dir = "data"
tls_certificate = "tls.crt"
tls_key = "tls.key"

gateway_lease = 30
rotation_days = 0x1e
"#;

const BAD_NAMES: &str = r#"lisen = "127.0.0.1:8443"
listen = 8443
config = "other.toml"
gateway_lease = "30"

[log]
level = "info"
"#;

const BAD_VALUES: &str = r#"listen = "localhost:8443"
data_dir = "/dev/null/data"
admin_token_file = "missing/token"
key_prefix = "Acme"
gateway_lease = 0
rotation_days = 36501
log = "inof"
audit_days = 0
"#;

/// Runs it in this folder; returns standard output, standard error and the exit code.
fn check(folder: &Path, arguments: &str, environment: &[(&str, &str)]) -> String {
    let mut command = omf_command().unwrap();
    command.env_remove("OMF_LOG").envs(environment.iter().copied()).current_dir(folder);
    command.args(["config", "check"]).args(arguments.split(' ').filter(|word| !word.is_empty()));
    let output = command.output().unwrap();
    let mut text = String::new();
    for (name, value) in environment {
        write!(text, "{name}='{value}' ").unwrap();
    }
    writeln!(text, "omf config check {arguments}").unwrap();
    text.push_str(std::str::from_utf8(&output.stdout).unwrap());
    text.push_str(std::str::from_utf8(&output.stderr).unwrap());
    writeln!(text, "exit code {}\n", output.status.code().unwrap()).unwrap();
    text
}

#[test]
fn config_check_shows_effective_settings_and_all_errors() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let authority = Authority::new();
    authority.issue(folder, "tls", 2100);
    authority.issue(folder, "other", 2100);
    authority.issue(folder, "old", 2020);
    authority.issue_for(folder, "nameless", 2100, &[]);
    fs::copy(authority.publish(folder), folder.join("authority.crt")).unwrap();
    write_secret(&folder.join("authority.key"), &authority.key());
    fs::write(folder.join("garbage.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .unwrap();
    for (name, text) in [
        ("good.toml", GOOD),
        ("names.toml", BAD_NAMES),
        ("values.toml", BAD_VALUES),
        ("syntax.toml", "listen = \"127.0.0.1:1\nlog = = 1\n"),
        ("twice.toml", "log = \"info\"\nlog = \"warn\"\n"),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    fs::write(folder.join("headers"), "x-tenant: 7\nauthorization Bearer c0ffee\n").unwrap();
    fs::set_permissions(folder.join("headers"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut all = String::new();
    let none: &[(&str, &str)] = &[];
    for (arguments, environment) in [
        ("", none),
        ("--config good.toml", none),
        (
            "--gateway-lease 10",
            &[("OMF_CONFIG", "good.toml"), ("OMF_LOG", "warn,h2=off"), ("OMF_GATEWAY_LEASE", "20")],
        ),
        ("--config good.toml --json", &[("OMF_LISTEN", "")]),
        ("--config nowhere.toml", none),
        ("--config syntax.toml", none),
        ("--config twice.toml", none),
        ("--config names.toml", none),
        ("--config values.toml", none),
        ("--listen 8443 --rotation-days -1", &[("OMF_LOG", "x"), ("OMF_TLS_KEY", "tls.key")]),
        ("--config good.toml --tls-key other.key", none),
        ("--tls-certificate old.crt --tls-key old.key", none),
        ("--tls-certificate tls.key --tls-key tls.crt", none),
        ("--tls-certificate tls.crt --tls-key tls.crt", none),
        ("--tls-certificate garbage.pem --tls-key tls.key --config values.toml --json", none),
        ("--tls-certificate none.crt --tls-key tls.key", none),
        ("--tls-certificate none.crt --tls-key none.key", none),
        ("--tls-certificate nameless.crt --tls-key nameless.key", none),
        ("--tls-certificate authority.crt --tls-key authority.key --json", none),
        ("--listen 0.0.0.0:8080", none),
        ("--otlp-endpoint https://collector.example.com --otlp-ca-file garbage.pem", none),
        ("--otlp-headers-file headers", &[("OMF_OTLP_ENDPOINT", "http://collector.example.com/v1/logs")]),
        ("--otlp-ca-file authority.crt", none),
    ] {
        all += &check(folder, arguments, environment);
    }
    for content in ["BEGIN PRIVATE KEY-----", "c0ffee"] {
        assert!(!all.contains(content), "no file's content is printed");
    }
    omniflow_golden::check("config-check.txt", &all);
    assert!(!folder.join("data").exists() && !folder.join("omniflow-data").exists(), "it only looks");
}

#[tokio::test]
async fn a_server_goes_by_flags_then_environment_then_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("omf.toml");
    let settings = "listen = '127.0.0.1:1'\ndata_dir = 'not-here'\nkey_prefix = 'acme'\nrotation_days = 1\nlog = 'off'\n";
    fs::write(&file, settings).unwrap();
    let port = Port::reserve().unwrap();
    let variables = [("OMF_ROTATION_DAYS", "2"), ("OMF_KEY_PREFIX", ""), ("OMF_LISTEN", "127.0.0.1:2")];
    let mut options = ControlPlaneOptions::new(&folder.path().join("state"), port.number());
    options.environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    options.environment.push(("OMF_CONFIG".to_owned(), file.display().to_string()));
    options.arguments = vec!["--gateway-lease".to_owned(), "5".to_owned()];
    let server = ControlPlane::start(options).await.unwrap();

    assert!(server.admin_token().starts_with("acme_token_"), "from the file");
    let key = server.create_live_key("ci", &["contacts:read"]).await.unwrap().key;
    let time = |field: &Value| field.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let due = time(&key["rotation_due_at"]).duration_since(time(&key["created_at"]));
    assert_eq!(due.unsigned_abs(), Duration::from_secs(2 * 86_400), "from the environment");
    assert!(!folder.path().join("not-here").exists(), "from the flag");
    if std::env::var_os("OMF_LOG").is_none() {
        assert_eq!(server.process().log(), "", "from the file");
    }
}

#[test]
fn invalid_settings_prevent_startup() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("omf.toml"), "gateway_lease = 0\n").unwrap();
    let mut command = omf_command().unwrap();
    command.args(["serve", "--config", "omf.toml", "--tls-key", "x"]).current_dir(folder.path());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("omf.toml line 1: gateway_lease: ") && said.contains("--tls-key: "), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was made");
}
