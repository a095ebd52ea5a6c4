//! Adds the sums of a batch to those in the database. They are passed as JSON, so that a batch costs five statements,
//! whatever its size and however many keys it contains.

use omniflow_policy::audit::AuditRecord;
use omniflow_store::Result;
use omniflow_store::rollup::Sums;
use serde_json::{Value, json};

use crate::database::SqliteTransaction;

const ADD_HOURS: &str = "INSERT INTO key_hours SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, \
     value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, 0, 1 \
     FROM json_each(?) WHERE true \
     ON CONFLICT DO UPDATE SET key_name = excluded.key_name, first_time = min(first_time, excluded.first_time), \
     last_time = max(last_time, excluded.last_time), calls = calls + excluded.calls, \
     unauthorized = unauthorized + excluded.unauthorized, forbidden = forbidden + excluded.forbidden, \
     missing = missing + excluded.missing, limited = limited + excluded.limited, \
     other_errors = other_errors + excluded.other_errors, changed = 1";

const ADD_NETWORKS: &str = "INSERT INTO key_networks SELECT unhex(value ->> 0), unhex(value ->> 1), value ->> 2, \
     value ->> 3, value ->> 4 FROM json_each(?) WHERE true \
     ON CONFLICT DO UPDATE SET first_time = min(first_time, excluded.first_time), \
     last_time = max(last_time, excluded.last_time), calls = calls + excluded.calls";

const ADD_PLACES: &str = "INSERT OR IGNORE INTO key_places SELECT unhex(value ->> 0), value ->> 1, unhex(value ->> 2) \
     FROM json_each(?)";

const COUNT_PLACES: &str = "UPDATE key_hours SET places = max(places, counted.n) FROM ( \
     SELECT touched.id AS id, touched.hour AS hour, max((SELECT count(*) FROM key_places \
     WHERE key_places.key_id = touched.id AND slot = touched.slot)) AS n \
     FROM (SELECT DISTINCT unhex(value ->> 0) AS id, value ->> 1 AS slot, (value ->> 1) / 6 AS hour FROM json_each(?)) \
     AS touched GROUP BY touched.id, touched.hour) AS counted \
     WHERE key_hours.key_id = counted.id AND key_hours.hour = counted.hour";

const ADD_ENDS: &str = "INSERT INTO key_ends SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, \
     value ->> 4, value ->> 5, value ->> 6, 1 FROM json_each(?) WHERE true \
     ON CONFLICT DO UPDATE SET key_name = excluded.key_name, first_time = min(first_time, excluded.first_time), \
     last_time = max(last_time, excluded.last_time), calls = calls + excluded.calls, changed = 1";

impl SqliteTransaction {
    /// Adds new records to the sums of their keys.
    pub(crate) async fn roll_up(&mut self, records: &[&AuditRecord]) -> Result<()> {
        let Sums { hours, networks, places, ends } = Sums::of(records);
        let hour_rows = hours.iter().map(|((key, hour), sum)| {
            let [unauthorized, forbidden, missing, limited, other] = sum.errors;
            json!([
                hex::encode(key.as_bytes()),
                hour,
                sum.name,
                sum.first,
                sum.last,
                sum.calls,
                unauthorized,
                forbidden,
                missing,
                limited,
                other
            ])
        });
        let network_rows = networks.iter().map(|((key, network), sum)| {
            json!([
                hex::encode(key.as_bytes()),
                hex::encode(network.prefix()),
                sum.first,
                sum.last,
                sum.calls
            ])
        });
        let place_rows: Vec<Value> = places
            .iter()
            .map(|(key, slot, network)| {
                json!([hex::encode(key.as_bytes()), slot, hex::encode(network.prefix())])
            })
            .collect();
        let end_rows = ends.iter().map(|((key, version, reason), sum)| {
            json!([hex::encode(key.as_bytes()), version, reason, sum.name, sum.first, sum.last, sum.calls])
        });
        self.add_rows(ADD_HOURS, hour_rows.collect()).await?;
        self.add_rows(ADD_NETWORKS, network_rows.collect()).await?;
        self.add_rows(ADD_PLACES, place_rows.clone()).await?;
        self.add_rows(COUNT_PLACES, place_rows).await?;
        self.add_rows(ADD_ENDS, end_rows.collect()).await
    }

    async fn add_rows(&mut self, statement: &'static str, rows: Vec<Value>) -> Result<()> {
        if !rows.is_empty() {
            sqlx::query(statement).bind(Value::Array(rows).to_string()).execute(self.connection()).await?;
        }
        Ok(())
    }
}
