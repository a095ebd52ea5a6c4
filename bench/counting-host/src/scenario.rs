//! The installation and the requests that are counted, like those that `make bench` measures.

use std::path::Path;

use anyhow::{Context as _, Result};
use omniflow_policy::address::Allowlist;
use omniflow_policy::digest::Digest;
use omniflow_policy::key::{Environment, KeyPrefix, Secret, compose_key};
use omniflow_policy::limit::RateLimit;
use omniflow_policy::policy::PolicyDocument;
use omniflow_policy::scope::ScopeSet;
use omniflow_policy::snapshot::{Credential, Image};
use uuid::Uuid;

use crate::{Cost, Exchange, Vm};

/// A path that a key of the installation may read.
pub const PATH: &str = "/api/v1/conversations/7";
const KEYS: u32 = 10_000;
/// Number of requests before counting starts, so that tables and buffers have reached their final size.
const WARM_UP: usize = 200;
/// Number of counted requests. Some of them bear costs that others caused, for example when a table grows.
const COUNTED: usize = 51;

/// A key. The installation contains the one with seed 0.
pub fn key(seed: u8) -> Secret {
    let mut next = seed;
    compose_key(&KeyPrefix::default(), Environment::Live, &mut || {
        next = next.wrapping_add(89);
        next
    })
}

/// A request with a key and the headers that Envoy adds.
pub fn request(method: &str, target: &str, key: &str) -> Exchange {
    let headers = [
        (":authority", "bench"),
        (":path", target),
        (":method", method),
        (":scheme", "http"),
        ("authorization", &format!("Bearer {key}")),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-proto", "http"),
        ("x-envoy-internal", "true"),
        ("x-request-id", "3c6fb540-c464-471a-bad3-2286c78d8134"),
    ];
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Exchange { request: headers.map(owned).into(), body: Vec::new() }
}

/// The cost of an exchange in a warmed-up VM: the median, by fuel. `limit` is the number of calls per minute and per
/// hour.
pub fn steady_cost(filter: &Path, limit: u32, exchange: &Exchange) -> Result<Cost> {
    let mut vm = Vm::start(filter, image(limit)?)?;
    for _ in 0..WARM_UP {
        vm.exchange(exchange)?;
        vm.tick(5)?;
    }
    let mut costs = (0..COUNTED).map(|_| vm.exchange(exchange)).collect::<Result<Vec<Cost>>>()?;
    costs.sort_by_key(|cost| cost.fuel);
    costs.into_iter().nth(COUNTED / 2).context("nothing was counted")
}

fn image(limit: u32) -> Result<Image> {
    let scopes =
        ScopeSet::new(["conversations:read", "conversations:write"].map(str::parse).into_iter().flatten())?;
    let credential = |number: u32, digest| Credential {
        digest,
        key_id: Uuid::from_u128(u128::from(number) + (0x019a << 112)),
        version: 1,
        environment: Environment::Live,
        revoked: false,
        not_after: None,
        name: format!("key-{number}"),
        scopes: scopes.clone(),
        rate_limit: RateLimit { per_minute: Some(limit), per_hour: Some(limit), burst: None },
        allowlist: Allowlist::default(),
    };
    let others = (1..KEYS).map(|number| credential(number, Digest::of(&number.to_le_bytes())));
    let all = others.chain([credential(0, key(0).digest())]).collect();
    Ok(Image::build(Uuid::from_u128(7), 10, &PolicyDocument::default(), all)?)
}
