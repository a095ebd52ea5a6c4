-- Times are milliseconds since 1970-01-01T00:00:00Z, days are whole days since then. Addresses are 16 bytes, IPv4 as
-- IPv4-mapped IPv6, so that every network is one range. A call without a known key has no key_id. Texts that are indexed
-- have the collation "C": their order does not depend on the operating system.

-- The numbers of the last record and of the last gap. A sequence would leave holes: a rollback does not return its numbers.
CREATE TABLE audit_numbers (
    id      smallint NOT NULL PRIMARY KEY CHECK (id = 1),
    records bigint   NOT NULL,
    gaps    bigint   NOT NULL
);

INSERT INTO audit_numbers (id, records, gaps) VALUES (1, 0, 0);

-- One partition for each day, so that the records of a day are purged by dropping a table.
--
-- A row with aggregated_calls stands for that many calls of one key, or without a known key from one address, with one reason
-- and status. Where source_ip is null, they came from several addresses. The first began at first_time, the last at time. It
-- has no method, path, request_id or endpoint, and its argument_hash is empty.
CREATE TABLE audit_records (
    id                    bigint  NOT NULL,
    time                  bigint  NOT NULL,
    key_id                uuid,
    latency_us            bigint  NOT NULL,
    request_bytes         bigint  NOT NULL,
    response_bytes        bigint  NOT NULL,
    grpc_status           bigint,           -- of a gRPC response
    aggregated_calls      bigint,
    first_time            bigint,
    key_version           integer,
    status                integer NOT NULL,
    argument_hash_partial boolean NOT NULL,
    gateway               text    NOT NULL,
    key_name              text    COLLATE "C",
    environment           text,
    method                text    NOT NULL,
    endpoint              text    COLLATE "C",
    path                  text    NOT NULL,
    interruption          text,             -- why the response was not complete
    decision              text    NOT NULL,
    reason                text    COLLATE "C" NOT NULL,
    source_ip             bytea,
    request_id            text    NOT NULL,
    argument_hash         bytea   NOT NULL
) PARTITION BY RANGE (time);

CREATE INDEX audit_records_id ON audit_records (id);
-- Each of these gives a page of the log in the order (…, time, id). Statistics are read from the first two alone.
CREATE INDEX audit_records_time ON audit_records (time, id)
    INCLUDE (status, latency_us, aggregated_calls, grpc_status);
CREATE INDEX audit_records_key ON audit_records (key_id, time, id)
    INCLUDE (status, latency_us, aggregated_calls, grpc_status) WHERE key_id IS NOT NULL;
CREATE INDEX audit_records_key_name ON audit_records (key_name, time, id) WHERE key_name IS NOT NULL;
CREATE INDEX audit_records_endpoint ON audit_records (endpoint, time, id) WHERE endpoint IS NOT NULL;
CREATE INDEX audit_records_reason ON audit_records (reason, time, id);
CREATE INDEX audit_records_status ON audit_records (status, time, id);
CREATE INDEX audit_records_source_ip ON audit_records (source_ip, time, id) WHERE source_ip IS NOT NULL;
-- By these, the oldest records of a kind are purged when the log reaches its maximum size.
CREATE INDEX audit_records_without_key ON audit_records (time) WHERE key_id IS NULL;
CREATE INDEX audit_records_refused ON audit_records (time) WHERE key_id IS NOT NULL AND reason <> 'allowed';

-- Sealed arguments of calls. Each is sealed by a data key, and data keys by the wrapping key, which is in a separate file.
CREATE TABLE audit_payloads (
    record_id bigint NOT NULL, -- of audit_records
    time      bigint NOT NULL, -- of the record
    data_key  bigint NOT NULL, -- of audit_data_keys
    sealed    bytea  NOT NULL
) PARTITION BY RANGE (time);

-- Ciphertext does not compress.
ALTER TABLE audit_payloads ALTER COLUMN sealed SET STORAGE EXTERNAL;
CREATE INDEX audit_payloads_record ON audit_payloads (record_id);
CREATE INDEX audit_payloads_time ON audit_payloads (time, record_id);

CREATE TABLE audit_data_keys (
    id           bigint NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at   bigint NOT NULL,
    wrapping_key bytea  NOT NULL, -- the first 8 bytes of its SHA-256
    sealed       bytea  NOT NULL
);

-- The days that have partitions. Times before 2026, which only a wrong clock has, share the day before it.
CREATE TABLE audit_days (
    day bigint NOT NULL PRIMARY KEY CHECK (day >= 20453)
);

-- The approximate size of each kind of content, by the day of the calls. By this table, reads find the partitions that they
-- need. Without, they would lock all of them, with all indexes.
CREATE TABLE log_usage (
    day          bigint NOT NULL, -- of audit_days
    content      text   NOT NULL,
    records      bigint NOT NULL, -- rows
    bytes        bigint NOT NULL,
    written      bigint NOT NULL, -- bytes, including those of deleted rows whose space is not returned yet
    first_record bigint NOT NULL, -- the lowest number, of audit_records; it may be purged
    last_record  bigint NOT NULL, -- the highest number, likewise
    PRIMARY KEY (day, content)
);

-- The name of a partition.
CREATE FUNCTION audit_partition(parent text, day bigint) RETURNS text LANGUAGE sql STABLE
RETURN parent || CASE WHEN day < 20454 THEN '_before_2026'
                      ELSE to_char(date '1970-01-01' + day::integer, '"_"YYYYMMDD') END;

-- Creates the partitions of a day. Attaching a table, unlike creating it as a partition, does not wait for readers.
CREATE FUNCTION create_audit_day(created bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    parent text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['audit_records', 'audit_payloads'] LOOP
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', audit_partition(parent, created), parent);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
                       parent, audit_partition(parent, created),
                       CASE WHEN created < 20454 THEN 'MINVALUE' ELSE (created * 86400000)::text END,
                       (created + 1) * 86400000);
    END LOOP;
    INSERT INTO audit_days VALUES (created);
END
$$;

-- Drops the partitions of a day and returns how many records they had.
CREATE FUNCTION drop_audit_day(dropped bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    purged bigint;
BEGIN
    EXECUTE format('DROP TABLE %I, %I', audit_partition('audit_records', dropped),
                   audit_partition('audit_payloads', dropped));
    DELETE FROM audit_days WHERE day = dropped;
    WITH gone AS (DELETE FROM log_usage WHERE day = dropped RETURNING content, records)
    SELECT coalesce(sum(records), 0) INTO purged FROM gone WHERE content <> 'payloads';
    RETURN purged;
END
$$;

-- Removes all payloads of a day and returns how many it had.
CREATE FUNCTION empty_audit_payloads(emptied bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    purged bigint;
BEGIN
    EXECUTE format('TRUNCATE %I', audit_partition('audit_payloads', emptied));
    DELETE FROM log_usage WHERE day = emptied AND content = 'payloads' RETURNING records INTO purged;
    RETURN coalesce(purged, 0);
END
$$;

-- Calls that have not ended. A row is removed when the call's record arrives in audit_records, or is reported as lost.
CREATE TABLE calls_in_progress (
    id          bigint  NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway     text    NOT NULL,
    incarnation text    NOT NULL, -- 16 hexadecimal digits
    vm          text    NOT NULL, -- 16 hexadecimal digits
    number      bigint  NOT NULL, -- among the calls that the VM has reported as in progress
    time        bigint  NOT NULL,
    key_id      uuid,
    key_name    text,
    key_version integer,
    environment text,
    method      text    NOT NULL,
    endpoint    text,
    path        text    NOT NULL,
    status      integer NOT NULL,
    source_ip   bytea,
    request_id  text    NOT NULL,
    lost        text,             -- 'vm' or 'gateway' if it has ended without reporting the end of the call
    UNIQUE (gateway, incarnation, vm, number)
);

CREATE INDEX calls_in_progress_key ON calls_in_progress (key_id, id) WHERE key_id IS NOT NULL;
CREATE INDEX calls_in_progress_time ON calls_in_progress (time);

-- How far each stream of records has arrived: one stream for each VM of each run of a gateway's process.
CREATE TABLE audit_streams (
    gateway       text   NOT NULL,
    incarnation   text   NOT NULL, -- 16 hexadecimal digits
    vm            text   NOT NULL, -- 16 hexadecimal digits
    next_sequence bigint NOT NULL,
    last_time     bigint NOT NULL,
    since         bigint,          -- when the first call of the last batch began
    PRIMARY KEY (gateway, incarnation, vm)
) WITH (fillfactor = 50);

-- Calls whose records will not arrive, or were purged because the log reached its maximum size.
CREATE TABLE audit_gaps (
    id          bigint  NOT NULL PRIMARY KEY, -- of audit_numbers
    gateway     text    NOT NULL,
    incarnation text    NOT NULL, -- empty for purged records
    vm          text    NOT NULL, -- empty for a whole gateway
    from_time   bigint,           -- null if unknown
    to_time     bigint  NOT NULL,
    missing     bigint  NOT NULL,
    cause       text    NOT NULL,
    at_least    boolean NOT NULL DEFAULT false, -- whether more calls may be missing
    withdraws   bigint,           -- the number of an earlier gap that this row withdraws; such a row is no gap itself
    purged_hour bigint            -- of purged records: the whole hours since 1970 in which the calls began
);

CREATE UNIQUE INDEX audit_gaps_purged ON audit_gaps (gateway, cause, purged_hour) WHERE purged_hour IS NOT NULL;
CREATE INDEX audit_gaps_to ON audit_gaps (to_time);

-- All gaps that were ever stored, purged and withdrawn ones included.
CREATE TABLE gap_totals (
    cause text   NOT NULL PRIMARY KEY,
    gaps  bigint NOT NULL,
    calls bigint NOT NULL
);

-- The last progress report of each run of a gateway's process, from which the gap is computed when the gateway is lost.
CREATE TABLE audit_gateways (
    gateway     text    NOT NULL,
    incarnation text    NOT NULL, -- 16 hexadecimal digits
    clock       bigint  NOT NULL, -- number of the report: the later of two has the higher number
    time        bigint  NOT NULL, -- of the report, by the gateway's clock
    heard_at    bigint  NOT NULL, -- by the control plane's clock
    quiescent   boolean NOT NULL,
    vms         text    NOT NULL, -- JSON
    gap         bigint,           -- of audit_gaps, if the gateway counts as lost
    PRIMARY KEY (gateway, incarnation)
);

CREATE INDEX audit_gateways_open ON audit_gateways (heard_at) WHERE NOT quiescent AND gap IS NULL;
CREATE INDEX audit_gateways_heard ON audit_gateways (heard_at);

CREATE TABLE key_last_used (
    key_id       uuid    NOT NULL,
    version      integer NOT NULL,
    last_used_at bigint  NOT NULL,
    PRIMARY KEY (key_id, version)
) WITH (fillfactor = 50);

-- Sums that anomalies are found in, added up as records arrive. Calls with a revoked or expired version are counted in
-- key_ends only. An hour is whole hours since 1970. A network is the prefix of its addresses: 15 bytes for an IPv4 /24, 6
-- for an IPv6 /48.
CREATE TABLE key_hours (
    key_id       uuid    NOT NULL,
    hour         bigint  NOT NULL,
    key_name     text    NOT NULL,
    first_time   bigint  NOT NULL,
    last_time    bigint  NOT NULL,
    calls        bigint  NOT NULL,
    unauthorized bigint  NOT NULL, -- 401
    forbidden    bigint  NOT NULL, -- 403
    missing      bigint  NOT NULL, -- 404
    limited      bigint  NOT NULL, -- 429
    other_errors bigint  NOT NULL, -- the rest of 4xx
    grpc_errors  bigint  NOT NULL, -- a gRPC status other than 0
    places       bigint  NOT NULL, -- the most networks in ten minutes of the hour
    changed      boolean NOT NULL, -- whether calls were added since it was evaluated
    PRIMARY KEY (key_id, hour)
) WITH (fillfactor = 80);

CREATE INDEX key_hours_changed ON key_hours (hour, key_id) WHERE changed;
CREATE INDEX key_hours_hour ON key_hours (hour);

CREATE TABLE key_networks (
    key_id     uuid   NOT NULL,
    network    bytea  NOT NULL,
    first_time bigint NOT NULL,
    last_time  bigint NOT NULL,
    calls      bigint NOT NULL,
    PRIMARY KEY (key_id, network)
);

CREATE INDEX key_networks_first ON key_networks (key_id, first_time);
CREATE INDEX key_networks_last ON key_networks (last_time);

-- The networks that a key was used from in each ten minutes of the last day.
CREATE TABLE key_places (
    key_id  uuid   NOT NULL,
    slot    bigint NOT NULL, -- whole ten minutes since 1970
    network bytea  NOT NULL,
    PRIMARY KEY (key_id, slot, network)
);

CREATE INDEX key_places_slot ON key_places (slot);

-- Calls with a version of a key after its end.
CREATE TABLE key_ends (
    key_id      uuid    NOT NULL,
    key_version integer NOT NULL,
    reason      text    COLLATE "C" NOT NULL,
    key_name    text    NOT NULL,
    first_time  bigint  NOT NULL,
    last_time   bigint  NOT NULL,
    calls       bigint  NOT NULL,
    changed     boolean NOT NULL,
    PRIMARY KEY (key_id, key_version, reason)
);

CREATE INDEX key_ends_changed ON key_ends (key_id, key_version, reason) WHERE changed;
CREATE INDEX key_ends_last ON key_ends (last_time);

CREATE TABLE anomalies (
    id         bigint NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       text   COLLATE "C" NOT NULL,
    key_id     uuid   NOT NULL,
    subject    text   COLLATE "C" NOT NULL, -- distinguishes anomalies of one kind and key
    key_name   text   NOT NULL,
    first_time bigint NOT NULL,
    last_time  bigint NOT NULL,
    evidence   text   NOT NULL  -- JSON
);

CREATE INDEX anomalies_subject ON anomalies (key_id, kind, subject, id);
CREATE INDEX anomalies_key ON anomalies (key_id, id);
CREATE INDEX anomalies_last ON anomalies (last_time);

-- All anomalies that were ever found, purged ones included.
CREATE TABLE anomaly_totals (
    kind  text   NOT NULL PRIMARY KEY,
    total bigint NOT NULL
);

-- Anomalies that the webhook has not accepted yet.
CREATE TABLE deliveries (
    anomaly_id bigint NOT NULL PRIMARY KEY REFERENCES anomalies (id) ON DELETE CASCADE,
    since      bigint NOT NULL,
    attempts   bigint NOT NULL,
    next_time  bigint NOT NULL
);

CREATE INDEX deliveries_next ON deliveries (next_time);

-- The cursor of the log exporter. No row before it is first set up.
CREATE TABLE audit_export (
    id       smallint NOT NULL PRIMARY KEY CHECK (id = 1),
    record   bigint   NOT NULL, -- the last processed, of audit_records
    gap      bigint   NOT NULL, -- the same of audit_gaps
    exported bigint   NOT NULL, -- accepted by the receiver, in total
    rejected bigint   NOT NULL, -- rejected by the receiver
    purged   bigint   NOT NULL  -- purged before they could be sent
);
