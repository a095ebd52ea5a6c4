//! The script of the token job, with the real `omf` and a control plane, and a cluster that is a folder.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use omniflow_deploy_tests::chart::{Manifests, render};
use omniflow_harness::control_plane::ControlPlaneOptions;
use omniflow_harness::ports::Port;
use omniflow_harness::{Call, ControlPlane, paths};
use serde_json::Value;

static FULL: LazyLock<Manifests> = LazyLock::new(|| render(&["full"], &[]).unwrap());

/// `kubectl get secret`, `kubectl exec` and `kubectl create secret`. The last is the real one, which prints the Secret.
const KUBECTL: &str = r#"#!/bin/sh
set -eu
case "$*" in
*"get secret"*) test -e "$SECRETS/$2-$5" ;;
exec*) shift 6; exec "$OMF" "$@" ;;
*"create secret"*)
    ! test -e "$SECRETS/broken" || { echo forbidden >&2; exit 1; }
    "$KUBECTL" "$@" --dry-run=client --output=json >"$SECRETS/$2-$6" ;;
*) echo "unexpected: $*" >&2; exit 2 ;;
esac
"#;

struct Cluster {
    folder: tempfile::TempDir,
    control_plane: ControlPlane,
    _port: Port,
}

impl Cluster {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = Port::reserve().unwrap();
        let options = ControlPlaneOptions::new(&folder.path().join("state"), port.number());
        let control_plane = ControlPlane::start(options).await.unwrap();
        let programs = folder.path().join("bin");
        fs::create_dir(&programs).unwrap();
        fs::create_dir(folder.path().join("secrets")).unwrap();
        fs::write(programs.join("kubectl"), KUBECTL).unwrap();
        Command::new("chmod").arg("+x").arg(programs.join("kubectl")).status().unwrap();
        Self { folder, control_plane, _port: port }
    }

    fn secrets(&self) -> std::path::PathBuf {
        self.folder.path().join("secrets")
    }

    fn run(&self, id: &str) -> Output {
        let job = FULL.find("Job", "omniflow-tokens").unwrap();
        let container = &job["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["command"], serde_json::json!(["sh", "-euc"]));
        Command::new("sh")
            .args(["-euc", container["args"][0].as_str().unwrap()])
            .env("PATH", format!("{}:/usr/bin:/bin", self.folder.path().join("bin").display()))
            .env("POD", "omniflow-0")
            .env("ID", id)
            .env("SECRETS", self.secrets())
            .env("OMF", paths::omf().unwrap())
            .env("KUBECTL", paths::root().join(".tools/bin/kubectl"))
            .env("OMF_URL", format!("http://127.0.0.1:{}", self.control_plane.port()))
            .env("OMF_TOKEN_FILE", self.control_plane.folder().join("admin-token"))
            .output()
            .unwrap()
    }

    fn token(&self, secret: &str, key: &str) -> String {
        let text = fs::read(self.secrets().join(secret)).unwrap();
        let secret: Value = serde_json::from_slice(&text).unwrap();
        String::from_utf8(STANDARD.decode(secret["data"][key].as_str().unwrap()).unwrap()).unwrap()
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[tokio::test]
async fn missing_secrets_are_created_with_tokens_that_work() {
    let cluster = Cluster::start().await;
    let output = cluster.run("first");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = ["billing", "envoy-gateway-system", "internal", "istio-ingress", "shop"];
    for namespace in names {
        let token = cluster.token(&format!("{namespace}-omniflow-gateway"), "OMF_GATEWAY_TOKEN");
        let call = Call::get("/v1/keys").bearer(&token);
        assert_eq!(
            cluster.control_plane.call(call).await.unwrap().status,
            403,
            "a gateway token, not an owner token"
        );
        assert!(!String::from_utf8_lossy(&output.stdout).contains(&token));
        assert!(!String::from_utf8_lossy(&output.stderr).contains(&token));
    }
    let owner = cluster.token("omniflow-omniflow-owner", "token");
    assert_eq!(cluster.control_plane.call(Call::get("/v1/tokens").bearer(&owner)).await.unwrap().status, 200);

    let before = cluster.control_plane.list("/v1/tokens").await.unwrap().len();
    assert!(cluster.run("upgrade").status.success());
    assert_eq!(
        cluster.control_plane.list("/v1/tokens").await.unwrap().len(),
        before,
        "existing Secrets are kept"
    );
}

/// A Secret without a token would be found by the next run, and never be replaced.
#[tokio::test]
async fn a_failed_command_creates_no_secret() {
    let cluster = Cluster::start().await;
    cluster.control_plane.stop().unwrap();
    assert!(!cluster.run("first").status.success());
    assert!(is_empty(&cluster.secrets()));
}

/// The next attempt of the job gets the token of the first one.
#[tokio::test]
async fn a_retry_does_not_create_another_token() {
    let cluster = Cluster::start().await;
    fs::write(cluster.secrets().join("broken"), "").unwrap();
    assert!(!cluster.run("job").status.success());
    let before = cluster.control_plane.list("/v1/tokens").await.unwrap().len();
    fs::remove_file(cluster.secrets().join("broken")).unwrap();
    assert!(cluster.run("job").status.success());
    let created = cluster.control_plane.list("/v1/tokens").await.unwrap().len() - before;
    assert_eq!(created, 5, "all but the first of six");
}
