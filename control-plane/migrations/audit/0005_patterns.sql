-- What each key does by the hour, and from where, kept as records come, so that a pattern is found without reading them
-- again. Calls with a version that was revoked or had expired are no part of it; they are counted by themselves.
-- An hour is whole hours since 1970. A network is what all its addresses begin with: 15 bytes for an IPv4 /24, 6 for an
-- IPv6 /48.

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
    places       INTEGER NOT NULL, -- the most networks in ten minutes of the hour
    changed      INTEGER NOT NULL, -- whether calls have come since it was looked at
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

-- Of the last hours: which networks a key was used from in each ten minutes.
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

CREATE TABLE findings (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    kind       TEXT    NOT NULL,
    key_id     BLOB    NOT NULL,
    subject    TEXT    NOT NULL, -- what tells findings of one kind and key apart
    key_name   TEXT    NOT NULL,
    first_time INTEGER NOT NULL,
    last_time  INTEGER NOT NULL,
    evidence   TEXT    NOT NULL  -- JSON
) STRICT;
CREATE INDEX findings_subject ON findings (key_id, kind, subject, id);
CREATE INDEX findings_key ON findings (key_id, id);
CREATE INDEX findings_last ON findings (last_time);

-- All findings there ever were, those that are purged included.
CREATE TABLE finding_totals (
    kind  TEXT    NOT NULL PRIMARY KEY,
    total INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Findings that a webhook has yet to take.
CREATE TABLE deliveries (
    finding_id INTEGER NOT NULL PRIMARY KEY REFERENCES findings (id) ON DELETE CASCADE,
    since      INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    next_time  INTEGER NOT NULL
) STRICT;
CREATE INDEX deliveries_next ON deliveries (next_time);

-- What is there already is history: nothing of it is looked at as if it happened now.
INSERT INTO key_hours
SELECT key_id, time / 3600000, max(key_name), min(time), max(time), count(*), sum(status = 401), sum(status = 403),
    sum(status = 404), sum(status = 429), sum(status BETWEEN 400 AND 499 AND status NOT IN (401, 403, 404, 429)), 0, 0
FROM audit_records
WHERE key_id IS NOT NULL AND reason NOT IN ('key_revoked', 'key_expired')
GROUP BY key_id, time / 3600000;

INSERT INTO key_networks
SELECT key_id, substr(source_ip, 1, iif(substr(source_ip, 1, 12) = x'00000000000000000000FFFF', 15, 6)) AS network,
    min(time), max(time), count(*)
FROM audit_records
WHERE key_id IS NOT NULL AND source_ip IS NOT NULL AND reason NOT IN ('key_revoked', 'key_expired')
GROUP BY key_id, network;

UPDATE key_hours SET places = counted.places FROM (
    SELECT key_id, slot / 6 AS hour, max(networks) AS places FROM (
        SELECT key_id, time / 600000 AS slot, count(DISTINCT
            substr(source_ip, 1, iif(substr(source_ip, 1, 12) = x'00000000000000000000FFFF', 15, 6))) AS networks
        FROM audit_records
        WHERE key_id IS NOT NULL AND reason NOT IN ('key_revoked', 'key_expired')
        GROUP BY key_id, slot
    ) GROUP BY key_id, slot / 6
) AS counted
WHERE key_hours.key_id = counted.key_id AND key_hours.hour = counted.hour;

INSERT INTO key_ends
SELECT key_id, key_version, reason, max(key_name), min(time), max(time), count(*), 0
FROM audit_records
WHERE key_id IS NOT NULL AND reason IN ('key_revoked', 'key_expired')
GROUP BY key_id, key_version, reason;
