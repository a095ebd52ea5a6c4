-- The arguments of calls, sealed: nobody reads them from this file. Each is sealed by a data key, and the data keys by
-- the wrapping key of the installation, which lies in a file of its own.

CREATE TABLE audit_data_keys (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at   INTEGER NOT NULL,
    wrapping_key BLOB    NOT NULL, -- which one: the first 8 bytes of its SHA-256
    sealed       BLOB    NOT NULL
) STRICT;

CREATE TABLE audit_payloads (
    record_id INTEGER PRIMARY KEY, -- of audit_records
    time      INTEGER NOT NULL,    -- of the record
    data_key  INTEGER NOT NULL,    -- of audit_data_keys
    sealed    BLOB    NOT NULL
) STRICT;

CREATE INDEX audit_payloads_time ON audit_payloads (time);
