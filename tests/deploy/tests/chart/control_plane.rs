//! The pod of the control plane, its volume, its certificate and its settings.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use omniflow_deploy_tests::chart::{containers, env, render};
use omniflow_harness::{omf_command, paths};
use serde_json::json;

use super::{FULL, MINIMAL, PLAIN, omf, pod, stateful_set, volume};

/// Settings that the chart sets itself.
const OWN: [&str; 9] = [
    "admin_token_file",
    "data_dir",
    "listen",
    "otlp_ca_file",
    "otlp_headers_file",
    "payload_key_file",
    "tls_certificate",
    "tls_key",
    "webhook_secret_file",
];

#[test]
fn one_replica_serves() {
    assert_eq!(stateful_set(&FULL)["spec"]["replicas"], 1);
}

#[test]
fn every_pod_runs_as_65532_without_root() {
    for (name, pod) in FULL.pods() {
        let context = &pod["securityContext"];
        assert_eq!(context["runAsNonRoot"], true, "{name}");
        for field in ["runAsUser", "runAsGroup", "fsGroup"] {
            assert_eq!(context[field], 65532, "{name}: {field}");
        }
    }
}

#[test]
fn every_pod_has_the_default_seccomp_profile() {
    for (name, pod) in FULL.pods() {
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
    }
}

#[test]
fn every_container_has_a_read_only_root_and_no_capabilities() {
    for (name, pod) in FULL.pods() {
        for container in containers(pod) {
            let expected = json!({
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            });
            assert_eq!(container["securityContext"], expected, "{name} {}", container["name"]);
        }
    }
}

#[test]
fn every_container_requests_resources_and_limits_memory() {
    for (name, pod) in FULL.pods() {
        for container in containers(pod) {
            let resources = &container["resources"];
            assert!(resources["requests"]["cpu"].is_string(), "{name} {}", container["name"]);
            assert!(resources["limits"]["memory"].is_string(), "{name} {}", container["name"]);
        }
    }
}

/// Only the job that creates Secrets calls the API of Kubernetes.
#[test]
fn only_the_token_job_mounts_a_service_account_token() {
    let mounted: Vec<_> = FULL
        .pods()
        .into_iter()
        .filter(|(_, pod)| pod["automountServiceAccountToken"] != false)
        .map(|(name, _)| name)
        .collect();
    assert_eq!(mounted, [r#""Job" "omniflow-tokens""#]);
    let account = FULL.find("ServiceAccount", "omniflow-tokens").unwrap();
    assert_eq!(account["automountServiceAccountToken"], false);
}

/// The kubelet would otherwise make the payload key writable by its group at each start, and `omf serve` rejects such files.
#[test]
fn files_in_the_volume_keep_their_modes() {
    for (name, pod) in FULL.pods() {
        assert_eq!(pod["securityContext"]["fsGroupChangePolicy"], "OnRootMismatch", "{name}");
    }
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("payload-key");
    fs::write(&key, "").unwrap();
    set_mode(&key, "0660");
    let omf = omf_command().unwrap();
    let mut command = Command::new("timeout");
    command.arg("20").arg(omf.get_program()).args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
    let output = command.arg(folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && text.contains("payload-key: other users can read"), "{text}");
}

fn set_mode(file: &Path, mode: &str) {
    assert!(Command::new("chmod").arg(mode).arg(file).status().unwrap().success());
}

/// The volume itself is not the data directory: `omf serve` creates that, readable only by its owner.
#[test]
fn the_data_directory_is_below_the_volume() {
    let mount = &omf(&FULL)["volumeMounts"].as_array().unwrap()[0];
    assert_eq!(
        (mount["name"].as_str(), mount["mountPath"].as_str()),
        (Some("data"), Some("/var/lib/omniflow"))
    );
    assert_eq!(env(omf(&FULL), "OMF_DATA_DIR"), Some("/var/lib/omniflow/data"));
}

#[test]
fn only_the_data_volume_is_writable() {
    let mounts = omf(&FULL)["volumeMounts"].as_array().unwrap();
    let writable: Vec<_> = mounts.iter().filter(|mount| mount["readOnly"] != true).collect();
    assert_eq!(writable.len(), 1);
    assert_eq!(writable[0]["name"], "data");
}

#[test]
fn the_volume_has_the_size_and_class_of_the_values() {
    let claim = &stateful_set(&FULL)["spec"]["volumeClaimTemplates"][0]["spec"];
    assert_eq!(claim["resources"]["requests"]["storage"], "50Gi");
    assert_eq!(claim["storageClassName"], "fast");
    assert_eq!(claim["accessModes"], json!(["ReadWriteOnce"]));
}

#[test]
fn the_volume_outlives_the_release() {
    let policy = &stateful_set(&MINIMAL)["spec"]["persistentVolumeClaimRetentionPolicy"];
    assert_eq!(*policy, json!({"whenDeleted": "Retain", "whenScaled": "Retain"}));
}

#[test]
fn an_existing_claim_replaces_the_template() {
    assert!(stateful_set(&PLAIN)["spec"]["volumeClaimTemplates"].is_null());
    let claim = &volume(pod(&PLAIN), "data").unwrap()["persistentVolumeClaim"]["claimName"];
    assert_eq!(claim, "keys-data");
}

#[test]
fn secrets_are_readable_by_the_group_only() {
    let volumes = pod(&FULL)["volumes"].as_array().unwrap();
    let secrets: Vec<_> = volumes.iter().filter(|volume| volume["secret"].is_object()).collect();
    assert_eq!(secrets.len(), 4);
    for volume in secrets {
        assert_eq!(volume["secret"]["defaultMode"], 0o440, "{volume}");
    }
}

#[test]
fn probes_call_the_endpoints_of_the_control_plane_over_tls() {
    let container = omf(&MINIMAL);
    for (probe, path) in
        [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]
    {
        let expected = json!({"path": path, "port": "https", "scheme": "HTTPS"});
        assert_eq!(container[probe]["httpGet"], expected, "{probe}");
    }
    assert_eq!(container["ports"], json!([{"name": "https", "containerPort": 8443}]));
}

#[test]
fn probes_use_http_without_tls() {
    let container = omf(&PLAIN);
    assert_eq!(container["readinessProbe"]["httpGet"]["scheme"], "HTTP");
    assert_eq!(container["ports"][0]["name"], "http");
    assert!(env(container, "OMF_TLS_KEY").is_none() && volume(pod(&PLAIN), "tls").is_none());
}

#[test]
fn tls_is_required_unless_it_is_disabled() {
    let container = omf(&MINIMAL);
    assert_eq!(env(container, "OMF_TLS_CERTIFICATE"), Some("/etc/omniflow/tls/tls.crt"));
    assert_eq!(env(container, "OMF_TLS_KEY"), Some("/etc/omniflow/tls/tls.key"));
    assert_eq!(volume(pod(&MINIMAL), "tls").unwrap()["secret"]["secretName"], "omniflow-tls");
}

#[test]
fn cert_manager_issues_the_certificate_that_is_mounted() {
    let certificate = &FULL.find("Certificate", "omniflow").unwrap()["spec"];
    assert_eq!(certificate["secretName"], volume(pod(&FULL), "tls").unwrap()["secret"]["secretName"]);
    let names = certificate["dnsNames"].as_array().unwrap();
    assert!(
        names.contains(&json!("omniflow.omniflow.svc.cluster.local"))
            && names.contains(&json!("keys.example.com"))
    );
    assert_eq!(certificate["issuerRef"]["name"], "internal-ca");
    assert_eq!(MINIMAL.of_kind("Certificate").count(), 0);
}

/// Clients verify the name that the commands in the container and the gateways use.
#[test]
fn commands_in_the_container_find_the_control_plane_its_token_and_its_ca() {
    let container = omf(&FULL);
    assert_eq!(env(container, "OMF_URL"), Some("https://omniflow.omniflow.svc.cluster.local:8443"));
    assert_eq!(env(container, "OMF_TOKEN_FILE"), Some("/var/lib/omniflow/data/admin-token"));
    assert_eq!(env(container, "OMF_CA_FILE"), Some("/etc/omniflow/tls/ca.crt"));
    let public = render(&["traffic-extension"], &[]).unwrap();
    let container = containers(public.pods()[0].1).next().unwrap().clone();
    assert_eq!(env(&container, "OMF_CA_FILE"), None, "a public CA is not in the Secret");
}

#[test]
fn settings_become_environment_variables() {
    let container = omf(&FULL);
    assert_eq!(env(container, "OMF_GATEWAY_LEASE"), Some("30"));
    assert_eq!(env(container, "OMF_AUDIT_MAX_MIB"), Some("4096"));
    assert_eq!(env(container, "OMF_LOG"), Some("info,omniflow_net=debug"));
    assert_eq!(env(container, "HTTPS_PROXY"), Some("http://proxy.example.com:3128"));
    let large = render(&["minimal"], &["settings.audit_max_mib=20000000"]).unwrap();
    let container = containers(large.pods()[0].1).next().unwrap().clone();
    assert_eq!(env(&container, "OMF_AUDIT_MAX_MIB"), Some("20000000"), "no exponent");
}

/// The schema offers every setting of `omf serve` that the chart does not set itself.
#[test]
fn the_schema_has_every_setting() {
    let reference = fs::read_to_string(paths::root().join("docs/reference/server-settings.md")).unwrap();
    let names = reference.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: BTreeSet<&str> = names.filter(|name| !OWN.contains(name)).collect();
    let schema = fs::read(paths::root().join("deploy/helm/omniflow/values.schema.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_slice(&schema).unwrap();
    let settings = schema["properties"]["settings"]["properties"].as_object().unwrap();
    assert_eq!(settings.keys().map(String::as_str).collect::<BTreeSet<_>>(), documented);
}

/// `omf config check` accepts the environment of the container, with the folders of this machine for the mounted ones.
#[test]
fn omf_accepts_the_rendered_environment() {
    let folder = tempfile::tempdir().unwrap();
    let mounted = folder.path().join("etc");
    let key = rcgen::generate_simple_self_signed(["omniflow.omniflow.svc.cluster.local".to_owned()]).unwrap();
    for (file, content) in [
        ("webhook/secret", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".to_owned()),
        ("otlp/headers", "authorization: Bearer x".to_owned()),
        ("otlp-ca/ca.crt", key.cert.pem()),
        ("tls/tls.crt", key.cert.pem()),
        ("tls/tls.key", key.signing_key.serialize_pem()),
    ] {
        let file = mounted.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, content).unwrap();
        set_mode(&file, "0440");
    }
    let mut command = omf_command().unwrap();
    command.args(["config", "check"]);
    for variable in omf(&FULL)["env"].as_array().unwrap() {
        let value = variable["value"].as_str().unwrap();
        let value = value.replace("/etc/omniflow", mounted.to_str().unwrap());
        command.env(
            variable["name"].as_str().unwrap(),
            value.replace("/var/lib/omniflow", folder.path().to_str().unwrap()),
        );
    }
    let output = command.output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("acme") && text.contains("OMF_KEY_PREFIX"), "{text}");
}

#[test]
fn the_digest_of_the_image_takes_precedence() {
    let image = omf(&PLAIN)["image"].as_str().unwrap();
    assert!(image.starts_with("registry.example.com/omniflow/omf@sha256:0123"), "{image}");
    assert_eq!(omf(&FULL)["image"], "registry.example.com/omniflow/omf:0.1.0-rc.1");
    assert_eq!(omf(&MINIMAL)["image"], "registry.example.com/omniflow/omf:0.1.0");
}

/// The versions of the chart are those of the workspace.
#[test]
fn the_chart_has_the_version_of_the_release() {
    let chart = fs::read_to_string(paths::root().join("deploy/helm/omniflow/Chart.yaml")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        chart.contains(&format!("\nversion: {version}\n"))
            && chart.contains(&format!("\nappVersion: {version}\n"))
    );
}

#[test]
fn placement_and_metadata_of_the_values_are_applied() {
    let pod = pod(&FULL);
    assert_eq!(pod["nodeSelector"]["kubernetes.io/os"], "linux");
    assert_eq!(pod["tolerations"][0]["key"], "dedicated");
    assert!(pod["affinity"]["nodeAffinity"].is_object());
    assert_eq!(pod["priorityClassName"], "system-cluster-critical");
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "registry"}]));
    let metadata = &stateful_set(&FULL)["spec"]["template"]["metadata"];
    assert_eq!(metadata["labels"]["example.com/team"], "platform");
    assert_eq!(metadata["annotations"]["example.com/note"], "yes");
}

#[test]
fn extra_objects_are_rendered_as_templates() {
    assert_eq!(FULL.find("ConfigMap", "extra-object").unwrap()["data"]["a"], "b");
    assert_eq!(FULL.find("ConfigMap", "omniflow-extra-template").unwrap()["data"]["c"], "d");
}

#[test]
fn the_minimal_values_render_three_objects() {
    let kinds: BTreeSet<_> = MINIMAL.all().iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, BTreeSet::from(["NetworkPolicy", "Service", "StatefulSet"]));
}

#[test]
fn no_rendered_object_is_a_secret() {
    assert_eq!(FULL.of_kind("Secret").count(), 0);
    assert_eq!(PLAIN.of_kind("Secret").count(), 0);
}
