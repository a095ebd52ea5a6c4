//! Inserts many keys at once into the databases of a stopped control plane, through its own storage.

use std::ops::Range;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use omniflow_domain::key::{Key, KeyVersion};
use omniflow_policy::address::Allowlist;
use omniflow_policy::key::{Environment, KeyPrefix, Secret, compose_key};
use omniflow_policy::limit::RateLimit;
use omniflow_policy::scope::ScopeSet;
use omniflow_policy::time::UnixMillis;
use omniflow_store::Store;
use omniflow_store_sqlite::SqliteStore;
use uuid::Uuid;

/// Maximum number of keys in memory.
const KEYS_AT_ONCE: usize = 10_000;
/// When all of them were created, 2023-11-14T22:13:20Z.
const MADE_AT: UnixMillis = UnixMillis(1_700_000_000_000);

/// The name of the key with this number, of a realistic length.
pub fn name(number: u32) -> String {
    format!("service-{number:07}-prod")
}

/// The secret of the key with this number, which is always the same. It must never be used outside of tests.
pub fn secret(number: u32) -> Secret {
    // SplitMix64, which turns numbers in a row into ones that look independent.
    let mut state = u64::from(number);
    let mut bytes = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed >> 56) as u8
    };
    compose_key(&KeyPrefix::default(), Environment::Live, &mut bytes)
}

/// Inserts the keys with these numbers into the databases in `folder`, in one transaction. They have ten different rate
/// limits, which no test reaches.
pub async fn fill(folder: &Path, numbers: Range<u32>) -> Result<()> {
    let store = SqliteStore::open(folder).await?;
    let scopes = ScopeSet::new(["contacts:read".parse()?, "conversations:read".parse()?])?;
    {
        let mut transaction = store.begin().await?;
        let numbers: Vec<u32> = numbers.collect();
        for numbers in numbers.chunks(KEYS_AT_ONCE) {
            let keys = numbers.iter().map(|number| key(*number, &scopes)).collect::<Result<Vec<_>>>()?;
            transaction.insert_keys(&keys).await?;
        }
        // Different content needs a different version.
        let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
        transaction.set_snapshot_version(now, UnixMillis(now)).await?;
        transaction.commit().await?;
    }
    store.close().await;
    Ok(())
}

/// Merges the index of names of the databases in `folder`, as a control plane does in the background, until nothing is
/// left to merge.
pub async fn merge_search_index(folder: &Path) -> Result<()> {
    let store = SqliteStore::open(folder).await?;
    while store.merge_search_segments().await? {}
    store.close().await;
    Ok(())
}

fn key(number: u32, scopes: &ScopeSet) -> Result<Key> {
    let secret = secret(number);
    Ok(Key {
        id: Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::from(number)),
        name: name(number).parse()?,
        environment: Environment::Live,
        scopes: scopes.clone(),
        rate_limit: RateLimit {
            per_minute: Some(1_000_000 - number % 10),
            per_hour: Some(1_000_000),
            burst: None,
        },
        ip_allowlist: Allowlist::default(),
        description: None,
        created_by: "owner".to_owned(),
        created_at: MADE_AT,
        expires_at: None,
        revision: 1,
        versions: vec![KeyVersion {
            version: 1,
            digest: secret.digest(),
            hint: secret.hint(),
            created_at: MADE_AT,
            expires_at: None,
            revoked_at: None,
            imported: false,
        }],
    })
}
