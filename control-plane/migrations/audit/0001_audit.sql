-- Times are milliseconds since 1970-01-01T00:00:00Z. Addresses are 16 bytes, IPv4 as IPv4-mapped IPv6, so that a
-- network is one range of them. A record of a call without a known key has no key_id.

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
    decision              TEXT    NOT NULL,
    reason                TEXT    NOT NULL,
    latency_us            INTEGER NOT NULL,
    source_ip             BLOB,
    request_id            TEXT    NOT NULL,
    request_bytes         INTEGER NOT NULL,
    response_bytes        INTEGER NOT NULL,
    argument_hash         BLOB    NOT NULL,
    argument_hash_partial INTEGER NOT NULL
) STRICT;

-- An index ends in the row's id by itself, so each of these gives (…, time, id) order to a page of the log.
CREATE INDEX audit_records_time ON audit_records (time);
CREATE INDEX audit_records_key ON audit_records (key_id, time) WHERE key_id IS NOT NULL;
CREATE INDEX audit_records_key_name ON audit_records (key_name, time) WHERE key_name IS NOT NULL;
CREATE INDEX audit_records_endpoint ON audit_records (endpoint, time) WHERE endpoint IS NOT NULL;
CREATE INDEX audit_records_reason ON audit_records (reason, time);
CREATE INDEX audit_records_status ON audit_records (status, time);
CREATE INDEX audit_records_source_ip ON audit_records (source_ip, time) WHERE source_ip IS NOT NULL;

-- The place in each stream of records: one stream for each VM of one start of a gateway.
CREATE TABLE audit_streams (
    gateway       TEXT    NOT NULL,
    incarnation   TEXT    NOT NULL, -- 16 hexadecimal digits
    vm            TEXT    NOT NULL, -- 16 hexadecimal digits
    next_sequence INTEGER NOT NULL,
    last_time     INTEGER NOT NULL,
    PRIMARY KEY (gateway, incarnation, vm)
) STRICT, WITHOUT ROWID;

-- Records that a gateway made and lost before they arrived here.
CREATE TABLE audit_gaps (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    gateway     TEXT    NOT NULL,
    incarnation TEXT    NOT NULL,
    vm          TEXT    NOT NULL,
    from_time   INTEGER, -- of the last record before the gap, if there is one
    to_time     INTEGER NOT NULL,
    missing     INTEGER NOT NULL
) STRICT;

CREATE TABLE key_last_used (
    key_id       BLOB    NOT NULL,
    version      INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    PRIMARY KEY (key_id, version)
) STRICT, WITHOUT ROWID;
