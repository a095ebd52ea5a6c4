//! Sightings of gateways, which are kept across restarts. Without them, a restarted control plane could not distinguish
//! a gateway that is cut off from one that does not exist.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use omniflow_policy::time::UnixMillis;
use tokio::sync::watch;
use uuid::Uuid;

use omniflow_domain::gateway::{GatewayId, Sighting};
use omniflow_domain::token::Token;

use super::tokens::UsedToken;
use super::{FORGOTTEN_AFTER, Fleet, Gateway, MAX_GATEWAYS, since};
use omniflow_store::{Store, StoreError};

/// How old a sighting becomes before it is written again.
const NOTED_EVERY: Duration = Duration::from_secs(60);
/// How much older than a gateway's last message its sighting may be: [`NOTED_EVERY`], plus the longest poll.
const NOTE_LAG: Duration = Duration::from_secs(120);
/// Number of gateways per transaction. Changes to keys alternate with these transactions.
const NOTED_AT_ONCE: usize = 500;

impl Fleet {
    /// Loads the gateways that an earlier process had seen. Those that may have been live when it ended count as live
    /// for one lease from now on, so that changes wait for them.
    pub async fn recall(&self, store: &dyn Store) -> Result<(), StoreError> {
        let now = self.clock.now();
        let sightings = store.sightings(before(now, FORGOTTEN_AFTER), MAX_GATEWAYS).await?;
        // Regardless of how long ago that was: the gateway existed when the earlier process last received a message.
        let ended = sightings.iter().map(|sighting| sighting.last_seen_at).max().unwrap_or(now);
        let mut tokens: HashMap<Uuid, Option<Token>> = HashMap::new();
        for used in sightings.iter().filter_map(|sighting| sighting.token.as_ref()) {
            if let Entry::Vacant(entry) = tokens.entry(used.id) {
                entry.insert(store.token(used.id).await?);
            }
        }
        let mut gateways = self.lock();
        for sighting in sightings {
            let token = sighting.token.clone().map(|used| match tokens.get(&used.id) {
                Some(Some(token)) => UsedToken::new(token, &sighting.id.gateway),
                _ => UsedToken::revoked(used),
            });
            if let Some(used) = token.as_ref().filter(|used| used.is_revoked) {
                self.revoked().insert(used.token.digest);
            }
            let expected = since(sighting.last_seen_at, ended) <= self.lease.saturating_add(NOTE_LAG);
            let gateway = Gateway {
                first_seen_at: sighting.first_seen_at,
                last_seen_at: sighting.last_seen_at,
                arrived_at: sighting.last_seen_at,
                hung_up_at: sighting.hung_up_at,
                is_busy: sighting.is_busy,
                token,
                expected_since: (expected && sighting.hung_up_at.is_none()).then_some(now),
                ..Gateway::new(now)
            };
            let noted = Some(sighting.clone());
            gateways.insert(sighting.id, Gateway { noted, ..gateway });
        }
        Ok(())
    }

    /// Writes sightings of new gateways and of those whose sighting is old.
    pub async fn memorise(&self, store: &dyn Store) -> Result<(), StoreError> {
        let _notes = self.notes.lock().await;
        for sightings in self.unnoted().chunks(NOTED_AT_ONCE) {
            let forgotten = before(self.clock.now(), FORGOTTEN_AFTER);
            let mut transaction = store.begin().await?;
            transaction.note_sightings(sightings).await?;
            transaction.prune_sightings(forgotten, MAX_GATEWAYS).await?;
            transaction.commit().await?;
            let mut gateways = self.lock();
            for sighting in sightings {
                if let Some(gateway) = gateways.get_mut(&sighting.id) {
                    gateway.noted = Some(sighting.clone());
                }
            }
        }
        Ok(())
    }

    /// Changes whenever a gateway was seen.
    pub(crate) fn heard(&self) -> watch::Receiver<()> {
        self.heard.subscribe()
    }

    fn unnoted(&self) -> Vec<Sighting> {
        let gateways = self.lock();
        let sightings = gateways.iter().map(|(id, gateway)| (gateway.sighting(id), gateway));
        sightings
            .filter(|(sighting, gateway)| gateway.noted.as_ref().is_none_or(|noted| is_old(noted, sighting)))
            .map(|(sighting, _)| sighting)
            .collect()
    }
}

impl Gateway {
    fn sighting(&self, id: &GatewayId) -> Sighting {
        Sighting {
            id: id.clone(),
            first_seen_at: self.first_seen_at,
            last_seen_at: self.last_seen_at,
            token: self.token.as_ref().map(|used| used.token.clone()),
            hung_up_at: self.hung_up_at,
            // It matters only after the connection has ended, and changes often until then.
            is_busy: self.is_busy && self.hung_up_at.is_some(),
        }
    }
}

fn is_old(noted: &Sighting, now: &Sighting) -> bool {
    since(noted.last_seen_at, now.last_seen_at) >= NOTED_EVERY
        || (&noted.token, noted.hung_up_at, noted.is_busy) != (&now.token, now.hung_up_at, now.is_busy)
}

fn before(now: UnixMillis, duration: Duration) -> UnixMillis {
    UnixMillis(now.0.saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use omniflow_store_sqlite::SqliteStore;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use omniflow_policy::gateway::{EnforcedReport, Incarnation};

    use super::*;
    use crate::fleet::VersionBounds;
    use omniflow_domain::clock::Clock;

    fn report(number: u64) -> EnforcedReport {
        EnforcedReport {
            gateway: "edge".to_owned(),
            incarnation: Incarnation(number),
            installation: None,
            vms: vec![],
        }
    }

    #[tokio::test]
    async fn a_gateway_is_noted_at_once_and_then_once_a_minute_for_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.path()).await.unwrap());
        let time = Arc::new(AtomicU64::new(1_000));
        let read = Arc::clone(&time);
        let clock = Clock::from_fn(move || UnixMillis(read.load(Ordering::Relaxed)));
        let fleet = Fleet::new(clock, Duration::from_secs(60));
        let noted = async || -> Vec<(u64, u64, u64)> {
            fleet.memorise(&*store).await.unwrap();
            let noted = store.sightings(UnixMillis(0), 1_000).await.unwrap();
            noted.iter().map(|one| (one.id.incarnation.0, one.first_seen_at.0, one.last_seen_at.0)).collect()
        };
        fleet.reported(&report(1), VersionBounds::ALL);
        assert_eq!(noted().await, [(1, 1_000, 1_000)]);
        time.store(60_999, Ordering::Relaxed);
        fleet.reported(&report(1), VersionBounds::ALL);
        fleet.reported(&report(2), VersionBounds::ALL);
        assert_eq!(noted().await, [(2, 60_999, 60_999), (1, 1_000, 1_000)]);
        time.store(61_000, Ordering::Relaxed);
        fleet.reported(&report(1), VersionBounds::ALL);
        assert_eq!(noted().await, [(1, 1_000, 61_000), (2, 60_999, 60_999)]);
        time.store(61_000 + 86_400_000, Ordering::Relaxed);
        fleet.reported(&report(3), VersionBounds::ALL);
        assert_eq!(noted().await, [(3, 86_461_000, 86_461_000), (1, 1_000, 61_000)]);
    }

    #[tokio::test]
    async fn the_notes_do_not_grow_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.path()).await.unwrap());
        let sightings: Vec<Sighting> = (1..=600u64)
            .rev()
            .map(|number| Sighting {
                id: GatewayId { gateway: "edge".to_owned(), incarnation: Incarnation(number) },
                first_seen_at: UnixMillis(number),
                last_seen_at: UnixMillis(number),
                token: None,
                hung_up_at: None,
                is_busy: false,
            })
            .collect();
        let mut transaction = store.begin().await.unwrap();
        transaction.note_sightings(&sightings).await.unwrap();
        transaction.prune_sightings(UnixMillis(0), 10).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(store.sightings(UnixMillis(0), 1_000).await.unwrap(), sightings[..10]);
    }
}
