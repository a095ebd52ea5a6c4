-- Times are milliseconds since 1970-01-01T00:00:00Z, identifiers are UUIDs in 16 bytes, digests are SHA-256.

CREATE TABLE installation (
    singleton        INTEGER PRIMARY KEY CHECK (singleton = 1),
    id               BLOB    NOT NULL CHECK (length(id) = 16),
    key_prefix       TEXT    NOT NULL,
    snapshot_version INTEGER NOT NULL,
    created_at       INTEGER NOT NULL
) STRICT;

CREATE TABLE policy_versions (
    version    INTEGER PRIMARY KEY,
    document   TEXT    NOT NULL,
    created_by TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
    id         BLOB    PRIMARY KEY CHECK (length(id) = 16),
    name       TEXT    NOT NULL UNIQUE,
    role       TEXT    NOT NULL,
    digest     BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
    created_by TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT;

CREATE TABLE keys (
    id           BLOB    PRIMARY KEY CHECK (length(id) = 16),
    name         TEXT    NOT NULL UNIQUE,
    environment  TEXT    NOT NULL,
    scopes       TEXT    NOT NULL, -- joined by single spaces
    per_minute   INTEGER,
    per_hour     INTEGER,
    burst        INTEGER,
    ip_allowlist TEXT    NOT NULL, -- networks joined by single spaces, empty for any address
    description  TEXT,
    created_by   TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER
) STRICT;

CREATE TABLE key_versions (
    key_id     BLOB    NOT NULL REFERENCES keys (id) ON DELETE CASCADE,
    version    INTEGER NOT NULL CHECK (version BETWEEN 1 AND 65535),
    digest     BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
    hint       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    PRIMARY KEY (key_id, version)
) STRICT, WITHOUT ROWID;
