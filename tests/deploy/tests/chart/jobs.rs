//! The backup and the job that creates tokens.

use omniflow_deploy_tests::chart::{containers, env, render};
use serde_json::{Value, json};

use super::{FULL, MINIMAL};

fn backup_pod() -> &'static Value {
    &FULL.find("CronJob", "omniflow-backup").unwrap()["spec"]["jobTemplate"]["spec"]["template"]["spec"]
}

#[test]
fn the_backup_reads_the_volume_of_the_control_plane() {
    let pod = backup_pod();
    assert_eq!(pod["volumes"][0]["persistentVolumeClaim"]["claimName"], "data-omniflow-0");
    let container = containers(pod).next().unwrap();
    assert_eq!(env(container, "OMF_DATA_DIR"), Some("/var/lib/omniflow/data"));
    assert_eq!(container["args"], json!(["db", "backup", "/backup/$(POD_NAME)", "--without-audit"]));
}

/// The volume is mounted on the node of the control plane.
#[test]
fn the_backup_runs_on_the_node_of_the_control_plane() {
    let rule = &backup_pod()["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(rule["topologyKey"], "kubernetes.io/hostname");
    assert_eq!(rule["labelSelector"]["matchLabels"]["app.kubernetes.io/component"], "control-plane");
}

#[test]
fn backups_do_not_overlap_and_outlive_the_release() {
    assert_eq!(FULL.find("CronJob", "omniflow-backup").unwrap()["spec"]["concurrencyPolicy"], "Forbid");
    let claim = FULL.find("PersistentVolumeClaim", "omniflow-backup").unwrap();
    assert_eq!(claim["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    let existing = render(&["traffic-extension"], &[]).unwrap();
    assert_eq!(existing.of_kind("PersistentVolumeClaim").count(), 0, "an existing claim is used");
}

/// Old backups are deleted only after the new one is complete.
#[test]
fn pruning_follows_a_successful_backup() {
    let pod = backup_pod();
    assert_eq!(pod["initContainers"][0]["name"], "backup");
    assert_eq!(pod["containers"][0]["name"], "prune");
    let unpruned = render(&["traffic-extension"], &[]).unwrap();
    let job = unpruned.find("CronJob", "omniflow-backup").unwrap();
    let pod = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["name"], "backup");
    assert!(pod["initContainers"].is_null());
}

/// The script of the chart, in a folder with nine backups of which seven are kept.
#[test]
fn pruning_keeps_the_newest_backups() {
    let script = backup_pod()["containers"][0]["args"][0].as_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for number in 0..9 {
        let backup = folder.path().join(format!("omniflow-backup-{number}-x"));
        std::fs::create_dir(&backup).unwrap();
        std::fs::write(backup.join("backup.json"), "").unwrap();
        let time = format!("2026-11-{:02} 02:17", 10 + number);
        std::process::Command::new("touch").args(["-d", &time]).arg(&backup).status().unwrap();
    }
    std::fs::create_dir(folder.path().join("lost+found")).unwrap();
    let script = script.replace("/backup/omniflow", &format!("{}/omniflow", folder.path().display()));
    let output = std::process::Command::new("sh").args(["-ec", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut left: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    let expected = (2..9).map(|number| format!("omniflow-backup-{number}-x"));
    assert_eq!(left, ["lost+found".to_owned()].into_iter().chain(expected).collect::<Vec<_>>());
}

#[test]
fn backup_and_tokens_are_opt_in() {
    for kind in ["CronJob", "Job", "Role", "ServiceAccount", "PersistentVolumeClaim"] {
        assert_eq!(MINIMAL.of_kind(kind).count(), 0, "{kind}");
    }
}

#[test]
fn the_token_job_runs_after_install_and_upgrade_and_after_its_roles() {
    let weight = |object: &Value| {
        let annotations = &object["metadata"]["annotations"];
        assert_eq!(annotations["helm.sh/hook"], "post-install,post-upgrade", "{object}");
        annotations["helm.sh/hook-weight"].as_str().unwrap().parse::<i32>().unwrap()
    };
    let job = weight(FULL.find("Job", "omniflow-tokens").unwrap());
    for kind in ["ServiceAccount", "Role", "RoleBinding"] {
        assert!(FULL.of_kind(kind).count() > 0);
        assert!(FULL.of_kind(kind).all(|object| weight(object) < job), "{kind}");
    }
}

/// The job may run commands in one pod, read its own Secrets, and create Secrets in the namespaces of the gateways.
#[test]
fn the_token_job_has_no_further_permissions() {
    let exec = &FULL.find("Role", "omniflow-tokens-exec").unwrap()["rules"];
    assert_eq!(
        *exec,
        json!([
            {"apiGroups": [""], "resources": ["pods"], "resourceNames": ["omniflow-0"], "verbs": ["get"]},
            {"apiGroups": [""], "resources": ["pods/exec"], "resourceNames": ["omniflow-0"], "verbs": ["get", "create"]},
        ])
    );
    let roles: Vec<_> =
        FULL.of_kind("Role").filter(|role| role["metadata"]["name"] == "omniflow-tokens").collect();
    let mut namespaces: Vec<_> =
        roles.iter().map(|role| role["metadata"]["namespace"].as_str().unwrap()).collect();
    namespaces.sort_unstable();
    assert_eq!(
        namespaces,
        ["billing", "envoy-gateway-system", "internal", "istio-ingress", "omniflow", "shop"]
    );
    for role in roles {
        let rules = role["rules"].as_array().unwrap();
        assert_eq!(rules[0]["verbs"], json!(["get"]));
        assert!(!rules[0]["resourceNames"].as_array().unwrap().is_empty());
        assert_eq!(rules[1]["verbs"], json!(["create"]));
        assert_eq!(rules.len(), 2);
    }
}
