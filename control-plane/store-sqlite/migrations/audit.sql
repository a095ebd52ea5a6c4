-- Times are milliseconds since 1970-01-01T00:00:00Z. Addresses are 16 bytes, IPv4 as IPv4-mapped IPv6, so that every
-- network is one range. A call without a known key has no key_id.
--
-- A row with aggregated_calls stands for that many calls of one key, or without a known key from one address, with one reason
-- and status. Where source_ip is null, they came from several addresses. The first began at first_time, the last at time. It
-- has no method, path, request_id or endpoint, and its argument_hash is empty.
CREATE TABLE audit_records (
    id                    INTEGER PRIMARY KEY AUTOINCREMENT,
    time                  INTEGER NOT NULL,
    gateway               TEXT    NOT NULL,
    key_id                BLOB,
    key_name              TEXT,
    key_version           INTEGER,
    environment           TEXT,
    method                TEXT    NOT NULL,
    endpoint              TEXT,
    path                  TEXT    NOT NULL,
    status                INTEGER NOT NULL,
    grpc_status           INTEGER,          -- of a gRPC response
    interruption          TEXT,             -- why the response was not complete
    decision              TEXT    NOT NULL,
    reason                TEXT    NOT NULL,
    latency_us            INTEGER NOT NULL,
    source_ip             BLOB,
    request_id            TEXT    NOT NULL,
    request_bytes         INTEGER NOT NULL,
    response_bytes        INTEGER NOT NULL,
    argument_hash         BLOB    NOT NULL,
    argument_hash_partial INTEGER NOT NULL,
    aggregated_calls          INTEGER,
    first_time            INTEGER
) STRICT;

-- An index ends in the row's id, so each of these gives a page of the log in the order (…, time, id). Where statuses, latency
-- and aggregated calls follow, statistics are read from the index alone; the id before them keeps the order.
CREATE INDEX audit_records_time ON audit_records (time, id, status, latency_us, aggregated_calls, grpc_status);
CREATE INDEX audit_records_key ON audit_records (key_id, time, id, status, latency_us, aggregated_calls, grpc_status)
    WHERE key_id IS NOT NULL;
CREATE INDEX audit_records_key_name ON audit_records (key_name, time, id, status, latency_us, aggregated_calls, grpc_status)
    WHERE key_name IS NOT NULL;
CREATE INDEX audit_records_endpoint ON audit_records (endpoint, time) WHERE endpoint IS NOT NULL;
CREATE INDEX audit_records_reason ON audit_records (reason, time);
CREATE INDEX audit_records_status ON audit_records (status, time);
CREATE INDEX audit_records_source_ip ON audit_records (source_ip, time) WHERE source_ip IS NOT NULL;
-- By these, the oldest records of a kind are purged when the log reaches its maximum size.
CREATE INDEX audit_records_without_key ON audit_records (time) WHERE key_id IS NULL;
CREATE INDEX audit_records_refused ON audit_records (time) WHERE key_id IS NOT NULL AND reason <> 'allowed';

-- The approximate size of each kind of content: records and payloads, without the rest of this database.
CREATE TABLE log_usage (
    content TEXT    NOT NULL PRIMARY KEY,
    bytes   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Calls that have not ended. A row is removed when the call's record arrives in audit_records, or is reported as lost.
CREATE TABLE calls_in_progress (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    gateway     TEXT    NOT NULL,
    incarnation TEXT    NOT NULL, -- 16 hexadecimal digits
    vm          TEXT    NOT NULL, -- 16 hexadecimal digits
    number      INTEGER NOT NULL, -- among the calls that the VM has reported as in progress
    time        INTEGER NOT NULL,
    key_id      BLOB,
    key_name    TEXT,
    key_version INTEGER,
    environment TEXT,
    method      TEXT    NOT NULL,
    endpoint    TEXT,
    path        TEXT    NOT NULL,
    status      INTEGER NOT NULL,
    source_ip   BLOB,
    request_id  TEXT    NOT NULL,
    lost        TEXT,             -- 'vm' or 'gateway' if it has ended without reporting the end of the call
    UNIQUE (gateway, incarnation, vm, number)
) STRICT;

CREATE INDEX calls_in_progress_key ON calls_in_progress (key_id, id) WHERE key_id IS NOT NULL;
CREATE INDEX calls_in_progress_time ON calls_in_progress (time);

-- How far each stream of records has arrived: one stream for each VM of each run of a gateway's process.
CREATE TABLE audit_streams (
    gateway       TEXT    NOT NULL,
    incarnation   TEXT    NOT NULL, -- 16 hexadecimal digits
    vm            TEXT    NOT NULL, -- 16 hexadecimal digits
    next_sequence INTEGER NOT NULL,
    last_time     INTEGER NOT NULL,
    since         INTEGER,          -- when the first call of the last batch began
    PRIMARY KEY (gateway, incarnation, vm)
) STRICT, WITHOUT ROWID;

-- Calls whose records will not arrive, or were purged because the log reached its maximum size.
CREATE TABLE audit_gaps (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    gateway     TEXT    NOT NULL,
    incarnation TEXT    NOT NULL, -- empty for purged records
    vm          TEXT    NOT NULL, -- empty for a whole gateway
    from_time   INTEGER,          -- null if unknown
    to_time     INTEGER NOT NULL,
    missing     INTEGER NOT NULL,
    cause       TEXT    NOT NULL DEFAULT 'unknown',
    at_least    INTEGER NOT NULL DEFAULT 0, -- whether more calls may be missing
    withdraws   INTEGER,          -- the number of an earlier gap that this row withdraws; such a row is no gap itself
    purged_hour INTEGER           -- of purged records: the whole hours since 1970 in which the calls began
) STRICT;

CREATE UNIQUE INDEX audit_gaps_purged ON audit_gaps (gateway, cause, purged_hour) WHERE purged_hour IS NOT NULL;

-- All gaps that were ever stored, purged and withdrawn ones included.
CREATE TABLE gap_totals (
    cause TEXT    NOT NULL PRIMARY KEY,
    gaps  INTEGER NOT NULL,
    calls INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The last progress report of each run of a gateway's process, from which the gap is computed when the gateway is lost.
CREATE TABLE audit_gateways (
    gateway     TEXT    NOT NULL,
    incarnation TEXT    NOT NULL, -- 16 hexadecimal digits
    clock       INTEGER NOT NULL, -- number of the report: the later of two has the higher number
    time        INTEGER NOT NULL, -- of the report, by the gateway's clock
    heard_at    INTEGER NOT NULL, -- by the control plane's clock
    quiescent     INTEGER NOT NULL,
    vms         TEXT    NOT NULL, -- JSON
    gap         INTEGER,          -- of audit_gaps, if the gateway counts as lost
    PRIMARY KEY (gateway, incarnation)
) STRICT, WITHOUT ROWID;

CREATE INDEX audit_gateways_open ON audit_gateways (heard_at) WHERE quiescent = 0 AND gap IS NULL;
CREATE INDEX audit_gateways_heard ON audit_gateways (heard_at);

CREATE TABLE key_last_used (
    key_id       BLOB    NOT NULL,
    version      INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    PRIMARY KEY (key_id, version)
) STRICT, WITHOUT ROWID;

-- Sealed arguments of calls. Each is sealed by a data key, and data keys by the wrapping key, which is in a separate file.
CREATE TABLE audit_data_keys (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at   INTEGER NOT NULL,
    wrapping_key BLOB    NOT NULL, -- the first 8 bytes of its SHA-256
    sealed       BLOB    NOT NULL
) STRICT;

CREATE TABLE audit_payloads (
    record_id INTEGER PRIMARY KEY, -- of audit_records
    time      INTEGER NOT NULL,    -- of the record
    data_key  INTEGER NOT NULL,    -- of audit_data_keys
    sealed    BLOB    NOT NULL
) STRICT;

CREATE INDEX audit_payloads_time ON audit_payloads (time);

-- Sums that anomalies are found in, added up as records arrive. Calls with a revoked or expired version are counted in
-- key_ends only. An hour is whole hours since 1970. A network is the prefix of its addresses: 15 bytes for an IPv4 /24, 6
-- for an IPv6 /48.
CREATE TABLE key_hours (
    key_id       BLOB    NOT NULL,
    hour         INTEGER NOT NULL,
    key_name     TEXT    NOT NULL,
    first_time   INTEGER NOT NULL,
    last_time    INTEGER NOT NULL,
    calls        INTEGER NOT NULL,
    unauthorized INTEGER NOT NULL, -- 401
    forbidden    INTEGER NOT NULL, -- 403
    missing      INTEGER NOT NULL, -- 404
    limited      INTEGER NOT NULL, -- 429
    other_errors INTEGER NOT NULL, -- the rest of 4xx
    grpc_errors  INTEGER NOT NULL, -- a gRPC status other than 0
    places       INTEGER NOT NULL, -- the most networks in ten minutes of the hour
    changed      INTEGER NOT NULL, -- whether calls were added since it was evaluated
    PRIMARY KEY (key_id, hour)
) STRICT, WITHOUT ROWID;

CREATE INDEX key_hours_changed ON key_hours (hour) WHERE changed = 1;
CREATE INDEX key_hours_hour ON key_hours (hour);

CREATE TABLE key_networks (
    key_id     BLOB    NOT NULL,
    network    BLOB    NOT NULL,
    first_time INTEGER NOT NULL,
    last_time  INTEGER NOT NULL,
    calls      INTEGER NOT NULL,
    PRIMARY KEY (key_id, network)
) STRICT, WITHOUT ROWID;

CREATE INDEX key_networks_first ON key_networks (key_id, first_time);
CREATE INDEX key_networks_last ON key_networks (last_time);

-- The networks that a key was used from in each ten minutes of the last day.
CREATE TABLE key_places (
    key_id  BLOB    NOT NULL,
    slot    INTEGER NOT NULL, -- whole ten minutes since 1970
    network BLOB    NOT NULL,
    PRIMARY KEY (key_id, slot, network)
) STRICT, WITHOUT ROWID;

CREATE INDEX key_places_slot ON key_places (slot);

-- Calls with a version of a key after its end.
CREATE TABLE key_ends (
    key_id      BLOB    NOT NULL,
    key_version INTEGER NOT NULL,
    reason      TEXT    NOT NULL,
    key_name    TEXT    NOT NULL,
    first_time  INTEGER NOT NULL,
    last_time   INTEGER NOT NULL,
    calls       INTEGER NOT NULL,
    changed     INTEGER NOT NULL,
    PRIMARY KEY (key_id, key_version, reason)
) STRICT, WITHOUT ROWID;

CREATE INDEX key_ends_changed ON key_ends (last_time) WHERE changed = 1;

CREATE TABLE anomalies (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    kind       TEXT    NOT NULL,
    key_id     BLOB    NOT NULL,
    subject    TEXT    NOT NULL, -- distinguishes anomalies of one kind and key
    key_name   TEXT    NOT NULL,
    first_time INTEGER NOT NULL,
    last_time  INTEGER NOT NULL,
    evidence   TEXT    NOT NULL  -- JSON
) STRICT;

CREATE INDEX anomalies_subject ON anomalies (key_id, kind, subject, id);
CREATE INDEX anomalies_key ON anomalies (key_id, id);
CREATE INDEX anomalies_last ON anomalies (last_time);

-- All anomalies that were ever found, purged ones included.
CREATE TABLE anomaly_totals (
    kind  TEXT    NOT NULL PRIMARY KEY,
    total INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Anomalies that the webhook has not accepted yet.
CREATE TABLE deliveries (
    anomaly_id INTEGER NOT NULL PRIMARY KEY REFERENCES anomalies (id) ON DELETE CASCADE,
    since      INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    next_time  INTEGER NOT NULL
) STRICT;

CREATE INDEX deliveries_next ON deliveries (next_time);

-- The cursor of the log exporter. No row before it is first set up.
CREATE TABLE audit_export (
    id       INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    record   INTEGER NOT NULL, -- the last processed, of audit_records
    gap      INTEGER NOT NULL, -- the same of audit_gaps
    exported INTEGER NOT NULL, -- accepted by the receiver, in total
    rejected INTEGER NOT NULL, -- rejected by the receiver
    purged   INTEGER NOT NULL  -- purged before they could be sent
) STRICT;
