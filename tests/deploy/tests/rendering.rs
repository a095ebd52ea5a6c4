//! `helm lint`, the schemas of all rendered objects, and the messages for values that cannot work.

use omniflow_deploy_tests::chart::{self, VALUES, helm, render};
use omniflow_deploy_tests::validators;
use serde_json::json;

#[test]
fn helm_accepts_the_chart_with_every_set_of_values() {
    for values in VALUES {
        let output = helm(&["lint", "--strict"], &[values], &[]).unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{values}: {text}");
    }
}

#[test]
fn every_object_matches_its_schema() {
    let sets = VALUES.map(|values| render(&[values], &[]).unwrap());
    let objects: Vec<_> = sets.iter().flat_map(|set| set.all().to_vec()).collect();
    assert!(objects.len() > 60, "only {} objects", objects.len());
    assert_eq!(validators::problems(&objects).unwrap(), Vec::<String>::new());
}

/// The validators find unknown fields and values of the wrong type in objects of every API.
#[test]
fn a_wrong_object_is_found() {
    let set = render(&["full"], &[]).unwrap();
    let extension = render(&["traffic-extension"], &[]).unwrap();
    let objects = set.all().iter().chain(extension.of_kind("TrafficExtension"));
    let broken: Vec<_> = objects
        .map(|object| {
            let mut broken = object.clone();
            let part = if object["spec"].is_object() { &mut broken["spec"] } else { &mut broken };
            part["noSuchField"] = json!(1);
            broken
        })
        .collect();
    let problems = validators::problems(&broken).unwrap();
    assert_eq!(problems.len(), broken.len(), "{problems:#?}");
    assert!(problems.iter().all(|problem| problem.contains("noSuchField")), "{problems:#?}");
    let mut plugin = set.find("WasmPlugin", "omniflow-public").unwrap().clone();
    plugin["spec"]["phase"] = json!("FIRST");
    assert_eq!(validators::problems(&[plugin]).unwrap().len(), 1);
}

#[test]
fn names_are_unique_within_their_namespace() {
    for values in VALUES {
        let set = render(&[values], &[]).unwrap();
        let mut names: Vec<String> = set
            .all()
            .iter()
            .map(|object| {
                let metadata = &object["metadata"];
                format!("{} {} {}", object["kind"], metadata["namespace"], metadata["name"])
            })
            .collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all, "{values}");
    }
}

fn message(files: &[&str], sets: &[&str]) -> String {
    match render(files, sets) {
        Ok(_) => format!("no error for {sets:?}"),
        Err(error) => error.to_string(),
    }
}

/// Each value that cannot work is refused before anything is installed, with what to do.
#[test]
fn impossible_values_are_refused_with_a_remedy() {
    let full = |set: &'static str| message(&["full"], &[set]);
    let cases = [
        (message(&[], &[]), "at '/image': missing property 'repository'"),
        (message(&[], &[r#"image={"repository":"a"}"#]), "set tls.existingSecret"),
        (full(r#"mode="postgres""#), "mode: postgres is not available yet"),
        (full("replicaCount=2"), "Set replicaCount: 1"),
        (full(r#"tls.existingSecret="a""#), "either tls.existingSecret or tls.certManager.enabled"),
        (full(r#"tls.certManager.issuerRef.name="""#), "requires tls.certManager.issuerRef.name"),
        (full(r#"webhook.existingSecret="""#), "requires webhook.existingSecret"),
        (full("networkPolicy.extraEgress=[]"), "add a rule for it to networkPolicy.extraEgress"),
        (full(r#"filter.url="""#), "set filter.url to oci://"),
        (full("istio.gateways=[]"), "at least one entry in istio.gateways"),
        (full("envoyGateway.gateways=[]"), "at least one entry in envoyGateway.gateways"),
        (full(r#"filter.url="file:///plugin.wasm""#), "Envoy Gateway does not support file://"),
        (full(r#"envoyGateway.gateways[0].caSecret="""#), "requires caSecret"),
        (full(r#"tokenJob.image="""#), "an image with kubectl and sh"),
        (full(r#"backup.prune.image="""#), "requires backup.prune.image"),
        (full(r#"persistence.accessMode="ReadWriteOncePod""#), "requires another persistence.accessMode"),
        (
            full(r#"istio.gateways[0]={"name":"g","kind":"gateway","namespace":"a","tokenSecret":"t"}"#),
            "g requires selector",
        ),
        (full(r#"istio.gateways[0].gatewayName="a""#), "both selector and gatewayName"),
        (
            full(
                r#"istio.gateways[3]={"name":"w","kind":"waypoint","namespace":"a","selector":{"a":"b"},"tokenSecret":"t"}"#,
            ),
            "the waypoint w requires gatewayName",
        ),
        (
            full(
                r#"istio.gateways[2]={"name":"s","kind":"sidecar","namespace":"a","gatewayName":"g","tokenSecret":"t"}"#,
            ),
            "the sidecar s requires selector",
        ),
    ];
    for (message, expected) in &cases {
        assert!(message.contains(expected), "{expected:?} is not in: {message}");
    }
}

#[test]
fn unknown_and_malformed_values_are_refused_by_the_schema() {
    let cases = [
        (r"replicas=2", "'replicas'"),
        (r#"settings.gateway_leese=1"#, "'gateway_leese'"),
        (r"settings.gateway_lease=0", "'/settings/gateway_lease'"),
        (r#"settings.webhook_url="hooks.example.com""#, "'/settings/webhook_url'"),
        (r#"image.digest="latest""#, "'/image/digest'"),
        (r#"filter.sha256="sha256:00""#, "'/filter/sha256'"),
        (r#"filter.url="registry.example.com/filter""#, "'/filter/url'"),
        (r#"filter.config.gateway_token="omf_token_x""#, "'gateway_token'"),
        (r#"istio.resource="EnvoyFilter""#, "'/istio/resource'"),
        (r#"istio.gateways[0].kind="egress""#, "'/istio/gateways/0/kind'"),
        (r#"tls.enabled="no""#, "'/tls/enabled'"),
        (r#"persistence.size="10 GB""#, "'/persistence/size'"),
        (r#"persistence.accessMode="ReadWriteMany""#, "'/persistence/accessMode'"),
        (r"service.port=443", "'/service/port'"),
        (r"backup.prune.keep=0", "'/backup/prune/keep'"),
    ];
    for (set, place) in cases {
        let message = message(&["full"], &[set]);
        assert!(message.contains("values don't meet the specifications"), "{set}: {message}");
        assert!(message.contains(place), "{set}: {message}");
    }
}

/// The notes contain the commands that come next, for the parts that are enabled.
#[test]
fn the_notes_show_the_next_commands() {
    let notes = chart::notes(&["plain"]).unwrap();
    for part in [
        "rollout status statefulset/keys",
        "kubectl --namespace omniflow exec keys-0 -- omf doctor",
        "token create --name istio-ingress-omniflow-gateway --role gateway --output-file -",
        "kubectl --namespace envoy-gateway-system create secret generic omniflow-gateway",
        r#"kubectl --namespace web patch gateway edge"#,
        r#""name":"keys-edge""#,
        "omf gateway list",
    ] {
        assert!(notes.contains(part), "{part:?} is not in: {notes}");
    }
    assert!(!chart::notes(&["full"]).unwrap().contains("token create"), "the job creates the tokens");
    assert!(chart::notes(&["minimal"]).unwrap().contains("No gateway is configured yet"));
}
