//! Reading the audit log within a time that a person waits: as far as it is found until then.
//!
//! A filter with an index is answered through it, at once. What is left of a filter is looked for among the calls of that
//! index, the newest first and some thousand at a time, until there is enough or the time is over; then the place is told
//! from which to look on. So a page costs the same in a log of any size, whatever is asked for.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use omniflow_policy::outcome::Outcome;
use omniflow_policy::time::UnixMillis;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};
use tokio::time::Instant;
use uuid::Uuid;

use super::audit::{COLUMNS, apply, apply_place, is_wide, page_query, read};
use super::columns::{address, address_bytes, from_millis, row_limit};
use super::{AuditFilter, AuditPosition, Database, KeyReference, Result};
use omniflow_domain::audit::AuditEntry;

/// Calls of the index that are looked through at once: some milliseconds.
const STEP: usize = 2_000;
/// Up to so many calls from a network are gathered through its addresses; more are found sooner by walking the log.
const GATHERED: usize = 5_000;

const USER_COLUMNS: &str =
    "SELECT time, key_id, key_name, endpoint, source_ip, coalesce(folded_calls, 1) FROM audit_records ";

/// What was found in time, newest first.
#[derive(Clone, Debug)]
pub(crate) struct Look<T> {
    /// The calls.
    pub(crate) found: Vec<T>,
    /// Where to look on, if the time was over before there was enough.
    pub(crate) ended_at: Option<AuditPosition>,
}

/// Of one call by whom it was made and where it went.
#[derive(Clone, Debug)]
pub(crate) struct AuditedUser {
    /// When it began.
    pub(crate) time: UnixMillis,
    /// The key and its name, where the caller presented one that exists.
    pub(crate) key: Option<(Uuid, String)>,
    /// The template of the route.
    pub(crate) endpoint: Option<String>,
    /// The caller's address.
    pub(crate) address: Option<IpAddr>,
    /// For how many calls this stands.
    pub(crate) calls: u64,
}

/// Through which index a filter is looked for, and what of the filter it answers.
pub(super) struct Through {
    pub(super) index: &'static str,
    answered: AuditFilter,
    is_all: bool,
}

impl Database {
    /// At most `limit` calls, newest first, beginning after `before`, as far as they are found before `deadline`.
    pub(crate) async fn look_for_calls(
        &self,
        filter: &AuditFilter,
        before: Option<AuditPosition>,
        limit: usize,
        deadline: Instant,
    ) -> Result<Look<AuditEntry>> {
        self.look(COLUMNS, filter, before, limit, deadline, read).await
    }

    /// By whom the newest calls were made and where they went, at most `limit`, as far as they are found before `deadline`.
    pub(crate) async fn look_for_users(
        &self,
        filter: &AuditFilter,
        limit: usize,
        deadline: Instant,
    ) -> Result<Look<AuditedUser>> {
        self.look(USER_COLUMNS, filter, None, limit, deadline, read_user).await
    }

    async fn look<T>(
        &self,
        head: &str,
        filter: &AuditFilter,
        mut before: Option<AuditPosition>,
        limit: usize,
        deadline: Instant,
        read: fn(&SqliteRow) -> Result<T>,
    ) -> Result<Look<T>> {
        let through = self.through(filter).await?;
        let head = format!("{head}INDEXED BY {} ", through.index);
        if through.is_all {
            let mut query = page_query(&head, filter, before, limit);
            let rows = query.build().fetch_all(&mut *self.reader().await?).await?;
            let found = rows.iter().map(read).collect::<Result<_>>()?;
            return Ok(Look { found, ended_at: None });
        }
        let mut found = Vec::new();
        loop {
            let start = self.step_back(&through, before).await?;
            let within = AuditFilter { from: start.or(filter.from), ..filter.clone() };
            let mut query = page_query(&head, &within, before, limit - found.len());
            let rows = query.build().fetch_all(&mut *self.reader().await?).await?;
            for row in &rows {
                found.push(read(row)?);
            }
            let Some(start) = start.filter(|_| found.len() < limit) else {
                return Ok(Look { found, ended_at: None });
            };
            // All of that instant was seen.
            before = Some(AuditPosition { time: start, id: 0 });
            if Instant::now() >= deadline {
                return Ok(Look { found, ended_at: before });
            }
        }
    }

    /// The time of the call that comes [`STEP`] after a place in an index; `None` if there is none.
    async fn step_back(
        &self,
        through: &Through,
        before: Option<AuditPosition>,
    ) -> Result<Option<UnixMillis>> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT time FROM audit_records INDEXED BY ");
        query.push(through.index).push(" WHERE true");
        apply(&mut query, &through.answered);
        apply_place(&mut query, before);
        query.push(" ORDER BY time DESC, id DESC LIMIT 1 OFFSET ").push_bind(row_limit(STEP));
        let row = query.build().fetch_optional(&mut *self.reader().await?).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.map(from_millis))
    }

    async fn through(&self, filter: &AuditFilter) -> Result<Through> {
        let gathered = |network: &IpNet| filter.key.is_none() && !is_wide(*network) && !is_host(*network);
        if let Some(network) = filter.network.filter(gathered) {
            let (first, last) = (address_bytes(network.network()), address_bytes(network.broadcast()));
            let row = sqlx::query(
                "SELECT count(*) FROM (SELECT 1 FROM audit_records WHERE source_ip BETWEEN ? AND ? LIMIT ?)",
            );
            let row = row.bind(first).bind(last).bind(row_limit(GATHERED + 1));
            let calls: i64 = row.fetch_one(&mut *self.reader().await?).await?.try_get(0)?;
            if calls <= row_limit(GATHERED) {
                let index = "audit_records_source_ip";
                return Ok(Through { index, answered: AuditFilter::default(), is_all: true });
            }
        }
        Ok(Through::of(filter))
    }
}

fn read_user(row: &SqliteRow) -> Result<AuditedUser> {
    let key: Option<Uuid> = row.try_get(1)?;
    let name: Option<String> = row.try_get(2)?;
    Ok(AuditedUser {
        time: from_millis(row.try_get(0)?),
        key: key.zip(name),
        endpoint: row.try_get(3)?,
        address: row.try_get::<Option<&[u8]>, _>(4)?.map(address).transpose()?,
        calls: row.try_get::<i64, _>(5)?.cast_unsigned(),
    })
}

/// Whether a network is one address.
fn is_host(network: IpNet) -> bool {
    network.prefix_len() == network.max_prefix_len()
}

// === impl Through ===

impl Through {
    /// The index of the condition that is likely met by the fewest calls, among those that [`apply`] leaves an index to.
    pub(super) fn of(filter: &AuditFilter) -> Self {
        let times = AuditFilter { from: filter.from, to: filter.to, ..AuditFilter::default() };
        let is_one = |status: &RangeInclusive<u16>| status.start() == status.end();
        let status = filter.status.clone().filter(is_one);
        let network = filter.network.filter(|network| filter.key.is_none() && !is_wide(*network));
        let (index, answered) = match (&filter.key, filter.reason, &filter.endpoint, status) {
            (None, ..) if network.is_some_and(is_host) => {
                ("audit_records_source_ip", AuditFilter { network, ..times })
            }
            (None, ..) if network.is_some() => ("audit_records_time", times),
            (Some(KeyReference::Id(id)), ..) => {
                ("audit_records_key", AuditFilter { key: Some(KeyReference::Id(*id)), ..times })
            }
            (Some(KeyReference::Name(name)), ..) => {
                let key = Some(KeyReference::Name(name.clone()));
                ("audit_records_key_name", AuditFilter { key, ..times })
            }
            (None, Some(reason), ..) if reason != Outcome::Allowed => {
                ("audit_records_reason", AuditFilter { reason: Some(reason), ..times })
            }
            (None, _, Some(endpoint), _) => {
                ("audit_records_endpoint", AuditFilter { endpoint: Some(endpoint.clone()), ..times })
            }
            (None, _, None, Some(status)) => {
                ("audit_records_status", AuditFilter { status: Some(status), ..times })
            }
            (None, Some(reason), None, None) => {
                ("audit_records_reason", AuditFilter { reason: Some(reason), ..times })
            }
            (None, None, None, None) => ("audit_records_time", times),
        };
        let is_all = answered.conditions() == filter.conditions();
        Self { index, answered, is_all }
    }
}

// === impl AuditFilter ===

impl AuditFilter {
    /// How many conditions it has but those of time.
    fn conditions(&self) -> usize {
        [
            self.key.is_some(),
            self.environment.is_some(),
            self.endpoint.is_some(),
            self.method.is_some(),
            self.status.is_some(),
            self.decision.is_some(),
            self.reason.is_some(),
            self.network.is_some(),
        ]
        .into_iter()
        .filter(|is_stated| *is_stated)
        .count()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use omniflow_policy::outcome::Denial;

    use super::*;
    use crate::http::testing::{Plane, START, record};
    use omniflow_domain::audit::Decision;

    /// 6,000 calls, three a millisecond, of two keys; each 2,500th was a `PUT` and refused.
    async fn plane() -> Plane {
        let plane = Plane::new().await;
        let token = plane.token("gateway").await;
        for first in (0..6_000).step_by(1_000) {
            let records = (first..first + 1_000).map(|n| {
                let key = Uuid::from_u128(1 + u128::from(n % 2));
                let mut record = record(n, START + n / 3, Some((key, "ci")));
                if n % 2_500 == 0 {
                    record.method = "PUT".to_owned();
                    record.outcome = Outcome::Denied(Denial::InsufficientScope);
                    record.status = 403;
                    record.source_ip = Some("198.51.100.9".parse().unwrap());
                }
                record
            });
            plane.deliver(&token, records.collect()).await;
        }
        plane
    }

    async fn ids(
        plane: &Plane,
        filter: &AuditFilter,
        before: Option<AuditPosition>,
        deadline: Instant,
    ) -> (Vec<i64>, Option<AuditPosition>) {
        let look = plane.app.storage.audit.look_for_calls(filter, before, 50, deadline).await.unwrap();
        (look.found.iter().map(|entry| entry.id).collect(), look.ended_at)
    }

    #[tokio::test]
    async fn a_look_finds_what_a_list_has() {
        let plane = plane().await;
        let far = Instant::now() + Duration::from_secs(600);
        let all = AuditFilter::default;
        let key = |n| Some(KeyReference::Id(Uuid::from_u128(n)));
        let put = || Some("PUT".to_owned());
        let contacts = || Some("/api/v1/contacts".to_owned());
        let refused = Some(Outcome::Denied(Denial::InsufficientScope));
        for filter in [
            all(),
            AuditFilter { method: put(), ..all() },
            AuditFilter { decision: Some(Decision::Denied), ..all() },
            AuditFilter { key: key(1), method: put(), ..all() },
            AuditFilter { key: key(2), method: put(), ..all() },
            AuditFilter { key: Some(KeyReference::Name("ci".to_owned())), status: Some(403..=403), ..all() },
            AuditFilter { reason: refused, ..all() },
            AuditFilter { reason: refused, endpoint: contacts(), ..all() },
            AuditFilter { reason: Some(Outcome::Allowed), method: put(), ..all() },
            AuditFilter { endpoint: contacts(), method: put(), ..all() },
            AuditFilter { status: Some(403..=403), method: put(), ..all() },
            AuditFilter { status: Some(400..=499), to: Some(UnixMillis(START + 900)), ..all() },
            AuditFilter { network: Some("198.51.100.0/24".parse().unwrap()), ..all() },
            AuditFilter { network: Some("198.51.100.9/32".parse().unwrap()), method: put(), ..all() },
            AuditFilter { network: Some("203.0.0.0/8".parse().unwrap()), method: put(), ..all() },
            AuditFilter { network: Some("203.0.113.0/24".parse().unwrap()), method: put(), ..all() },
            AuditFilter { network: Some("203.0.113.0/24".parse().unwrap()), endpoint: contacts(), ..all() },
            AuditFilter { network: Some("203.0.113.7/32".parse().unwrap()), endpoint: contacts(), ..all() },
            AuditFilter { network: Some("198.51.100.9/32".parse().unwrap()), reason: refused, ..all() },
            AuditFilter { network: Some("198.51.0.0/15".parse().unwrap()), reason: refused, ..all() },
            AuditFilter { key: key(1), network: Some("198.51.100.0/24".parse().unwrap()), ..all() },
            AuditFilter { method: Some("DELETE".to_owned()), ..all() },
            AuditFilter { method: put(), from: Some(UnixMillis(START + 800)), ..all() },
        ] {
            let listed = plane.app.storage.audit.audit_entries(&filter, None, 50).await.unwrap();
            let listed: Vec<i64> = listed.iter().map(|entry| entry.id).collect();
            assert_eq!(ids(&plane, &filter, None, far).await, (listed.clone(), None), "{filter:?}");
            // A step at a time, as when there is no time at all.
            let (mut found, mut before) = (Vec::new(), None);
            loop {
                let (some, ended_at) = ids(&plane, &filter, before, Instant::now()).await;
                found.extend(some);
                before = ended_at;
                if before.is_none() {
                    break;
                }
            }
            assert_eq!(found, listed, "{filter:?}");
        }
        let users = plane.app.storage.audit.look_for_users(&all(), 4_000, far).await.unwrap();
        assert_eq!(users.found.len(), 4_000);
        assert_eq!(users.found[0].key, Some((Uuid::from_u128(2), "ci".to_owned())));
    }

    #[tokio::test]
    async fn a_look_that_has_no_time_tells_where_it_ended() {
        let plane = plane().await;
        let filter = AuditFilter { method: Some("DELETE".to_owned()), ..AuditFilter::default() };
        let (found, ended_at) = ids(&plane, &filter, None, Instant::now()).await;
        // The call with the number 4,000 is the one behind the first 2,000.
        assert_eq!(
            (found, ended_at),
            (vec![], Some(AuditPosition { time: UnixMillis(START + 3_999 / 3), id: 0 }))
        );
    }
}
