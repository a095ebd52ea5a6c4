//! Many clients create keys at the same time, even while the control plane is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use omniflow_harness::control_plane::NewKey;
use omniflow_harness::{Call, Stack, StackOptions, client, eventually};
use omniflow_policy::gateway::{DELTA_MEDIA_TYPE, MANIFEST_MEDIA_TYPE, POLL_PATH, chunk_path};
use omniflow_policy::snapshot::{Change, Delta, Manifest, Segment, split_chunk};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::{connections, contacts, create_call, created};

const CLIENTS: usize = 16;
const KEYS: usize = 1_000;
/// For one key, over a restart of the control plane.
const WITHIN: Duration = Duration::from_secs(30);

/// The outcome for one name.
#[derive(Debug)]
enum Outcome {
    /// Answered with 201.
    Answered(NewKey),
    /// The response was lost; on a retry, the name was taken.
    Unanswered,
}

/// The outcomes for the names of one client.
type Outcomes = Vec<(String, Outcome)>;

/// Clients that share the names `key-0` to `key-999`.
struct Clients {
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Result<Outcomes>>>,
}

// === impl Clients ===

impl Clients {
    fn start(stack: &Stack) -> Self {
        let (next, answered) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let clients = (0..CLIENTS).map(|_| {
            let (next, answered) = (Arc::clone(&next), Arc::clone(&answered));
            let (port, token) = (stack.control_plane.port(), stack.control_plane.admin_token().to_owned());
            tokio::spawn(async move {
                let mut outcomes = Outcomes::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= KEYS {
                        return Ok(outcomes);
                    }
                    let name = format!("key-{number}");
                    let outcome = create(port, &token, &name).await?;
                    answered.fetch_add(1, Ordering::Relaxed);
                    outcomes.push((name, outcome));
                }
            })
        });
        Self { clients: clients.collect(), answered }
    }

    async fn end(self) -> BTreeMap<String, Outcome> {
        let mut all = BTreeMap::new();
        for client in self.clients {
            all.extend(client.await.unwrap().unwrap());
        }
        all
    }
}

/// Tries until there is a response.
async fn create(port: u16, token: &str, name: &str) -> Result<Outcome> {
    eventually(WITHIN, || async {
        let response = client::call(port, create_call(name, token)).await?;
        match (response.status, response.problem_code().as_deref()) {
            (201, _) => Ok(Ok(Outcome::Answered(created(&response)?))),
            (409, Some("name_taken")) => Ok(Ok(Outcome::Unanswered)),
            // Started again, and not ready yet.
            (503, _) => bail!("not ready"),
            (status, _) => Ok(Err(anyhow::anyhow!("{name}: {status} {}", response.text()))),
        }
    })
    .await?
}

/// Names and versions of all credentials that a new gateway would be given: in the image, which may be one that is offered
/// to others already, and in the deltas that bring it up to date.
async fn image(stack: &Stack, token: &str) -> Result<BTreeSet<(String, u16)>> {
    let mut poll = json!({
        "gateway": "reader", "incarnation": "000000000000000a", "filter_version": "0.1.0", "snapshot_format": 1,
        "installation": null, "version": 0, "wait_ms": 0, "clock": 1_800_000_000_000_u64, "vms": [],
    });
    let answer = stack.control_plane.call(Call::post(POLL_PATH, &poll).bearer(token)).await?;
    ensure!(answer.header("content-type") == Some(MANIFEST_MEDIA_TYPE), "{}", answer.text());
    let manifest = Manifest::decode(&answer.body)?;
    let (mut index, mut found) = (0, BTreeSet::new());
    for chunk in 0..manifest.chunk_count() {
        let path = chunk_path(manifest.version, chunk);
        let answer = stack.control_plane.call(Call::get(&path).bearer(token)).await?;
        for page in split_chunk(&answer.body)? {
            let page = Segment::parse(page.to_vec(), manifest.segment_id(index))?;
            found.extend(page.credentials().map(|one| (one.name, one.version)));
            index += 1;
        }
    }
    poll["installation"] = json!(manifest.installation);
    poll["version"] = json!(manifest.version);
    loop {
        let answer = stack.control_plane.call(Call::post(POLL_PATH, &poll).bearer(token)).await?;
        if answer.status == 204 {
            return Ok(found);
        }
        ensure!(answer.header("content-type") == Some(DELTA_MEDIA_TYPE), "{}", answer.text());
        let delta = Delta::decode(&answer.body)?;
        poll["version"] = json!(delta.to);
        for change in delta.changes {
            match change {
                Change::Put(one) => found.insert((one.name, one.version)),
                Change::Revoke(_) => bail!("nothing was revoked"),
            };
        }
    }
}

/// Every acknowledged key exists and works, and no key exists partially.
async fn check(stack: &Stack, outcomes: &BTreeMap<String, Outcome>) {
    assert_eq!(outcomes.len(), KEYS, "every name has its outcome");
    let listed = stack.control_plane.list("/v1/keys?limit=500").await.unwrap();
    let names: BTreeMap<&str, &Value> =
        listed.iter().map(|key| (key["name"].as_str().unwrap(), key)).collect();
    assert_eq!((listed.len(), names.len()), (KEYS, KEYS));
    let answered: Vec<(&str, &NewKey)> = outcomes
        .iter()
        .filter_map(|(name, outcome)| match outcome {
            Outcome::Answered(key) => Some((name.as_str(), key)),
            Outcome::Unanswered => None,
        })
        .collect();
    let distinct = |of: fn(&NewKey) -> &str| answered.iter().map(|(_, key)| of(key)).collect::<BTreeSet<_>>();
    assert_eq!(distinct(|key| &key.id).len(), answered.len());
    assert_eq!(distinct(|key| &key.secret).len(), answered.len());

    let token = stack.control_plane.create_token("reader of images", "gateway").await.unwrap();
    let image = image(stack, &token).await.unwrap();
    let expected = names.keys().map(|name| ((*name).to_owned(), 1));
    assert_eq!(image, expected.collect());
    for (name, key) in &names {
        assert_eq!(key["versions"].as_array().map(Vec::len), Some(1), "{name}");
    }

    stack.in_step().await.unwrap();
    let mut client = connections(stack.envoy.port(), 1).await.unwrap().remove(0);
    for (name, key) in &answered {
        assert_eq!(names[name]["id"], key.id.as_str());
        let response = client.call(contacts(&key.secret)).await.unwrap();
        assert_eq!(response.status, 200, "{name}: {}", response.text());
    }
    println!("{} of {KEYS} keys were answered, and all of those pass", answered.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_keys_from_sixteen_clients_are_all_there() {
    let stack = Stack::start(StackOptions::workers(1)).await.unwrap();
    let began = Instant::now();
    let outcomes = Clients::start(&stack).end().await;
    println!("{KEYS} keys from {CLIENTS} clients in {:?}", began.elapsed());
    assert!(outcomes.values().all(|outcome| matches!(outcome, Outcome::Answered(_))));
    check(&stack, &outcomes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_is_killed_keeps_what_it_answered() {
    let mut stack = Stack::start(StackOptions::workers(1)).await.unwrap();
    let clients = Clients::start(&stack);
    eventually(WITHIN, || async {
        let answered = clients.answered.load(Ordering::Relaxed);
        ensure!(answered >= KEYS / 3, "{answered} keys");
        Ok(())
    })
    .await
    .unwrap();
    stack.control_plane.process().kill().unwrap();
    let answered = clients.answered.load(Ordering::Relaxed);
    assert!(answered < KEYS, "it was killed in the middle");
    stack.control_plane.restart().await.context("after the kill").unwrap();
    let outcomes = clients.end().await;
    check(&stack, &outcomes).await;
}
