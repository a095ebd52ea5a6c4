-- Times are milliseconds since 1970-01-01T00:00:00Z, identifiers are UUIDs in 16 bytes, digests are SHA-256.

CREATE TABLE installation (
    singleton        INTEGER PRIMARY KEY CHECK (singleton = 1),
    id               BLOB    NOT NULL CHECK (length(id) = 16),
    key_prefix       TEXT    NOT NULL,
    snapshot_version INTEGER NOT NULL,
    published_at     INTEGER NOT NULL, -- of that version
    created_at       INTEGER NOT NULL
) STRICT;

CREATE TABLE policy_versions (
    version    INTEGER PRIMARY KEY,
    document   TEXT    NOT NULL, -- JSON
    created_by TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
    id         BLOB    PRIMARY KEY CHECK (length(id) = 16),
    name       TEXT    NOT NULL UNIQUE,
    role       TEXT    NOT NULL,
    gateways   TEXT    NOT NULL, -- patterns of gateway names, separated by spaces; empty for any
    digest     BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
    created_by TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT;

-- Keys are never deleted, so rowids count from 1 without a gap, in a copy made by VACUUM too.
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
    expires_at   INTEGER,
    revision     INTEGER NOT NULL DEFAULT 1 -- incremented by every change, so that admins do not overwrite each other
) STRICT;

CREATE INDEX keys_expires_at ON keys (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE key_versions (
    key_id     BLOB    NOT NULL REFERENCES keys (id) ON DELETE CASCADE,
    version    INTEGER NOT NULL CHECK (version BETWEEN 1 AND 65535),
    digest     BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
    hint       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    imported   INTEGER NOT NULL DEFAULT 0, -- issued by another system; accepted only if the policy has imported_keys
    PRIMARY KEY (key_id, version)
) STRICT, WITHOUT ROWID;

CREATE INDEX key_versions_imported ON key_versions (key_id) WHERE imported = 1 AND revoked_at IS NULL;
CREATE INDEX key_versions_hint ON key_versions (hint);

-- Full-text search: names and descriptions by any three consecutive characters. Refers to keys by their rowid.
CREATE VIRTUAL TABLE key_texts USING fts5 (
    name, description, content = 'keys', tokenize = 'trigram', detail = 'none', columnsize = 0
);
-- By default SQLite merges index segments in the transaction that inserts every 64th key, which took up to 78 ms with a
-- million keys. They are merged beside the changes instead: see search_index.rs.
INSERT INTO key_texts (key_texts, rank) VALUES ('automerge', 0);

CREATE TRIGGER keys_are_searchable AFTER INSERT ON keys
BEGIN
    INSERT INTO key_texts (rowid, name, description) VALUES (new.rowid, new.name, new.description);
END;
CREATE TRIGGER keys_stay_searchable AFTER UPDATE OF name, description ON keys
WHEN old.name IS NOT new.name OR old.description IS NOT new.description
BEGIN
    INSERT INTO key_texts (key_texts, rowid, name, description)
    VALUES ('delete', old.rowid, old.name, old.description);
    INSERT INTO key_texts (rowid, name, description) VALUES (new.rowid, new.name, new.description);
END;

-- Browser sessions. The digest is of the session's identifier, which only the browser has. A session ends with its token.
CREATE TABLE sessions (
    digest     BLOB    PRIMARY KEY CHECK (length(digest) = 32),
    token_id   BLOB    NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL -- last use, to the minute
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_token_id ON sessions (token_id);

-- Creates that clients may retry. Responses contain secrets and are not stored.
CREATE TABLE idempotency (
    token_id       BLOB    NOT NULL,
    key_digest     BLOB    NOT NULL CHECK (length(key_digest) = 32),
    request_digest BLOB    NOT NULL CHECK (length(request_digest) = 32),
    created        TEXT    NOT NULL, -- kind and identifiers, in JSON
    created_at     INTEGER NOT NULL,
    PRIMARY KEY (token_id, key_digest)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_created_at ON idempotency (created_at);

-- The admin log: every change with the principal who made it, written in the transaction of the change, never altered.
CREATE TABLE admin_log (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    time         INTEGER NOT NULL,
    principal_id BLOB,          -- the token; null for the first start
    principal_name TEXT    NOT NULL,
    action       TEXT    NOT NULL,
    subject_id   TEXT    NOT NULL,
    subject_name TEXT    NOT NULL,
    before       TEXT,          -- JSON: the fields that changed, before; null for a creation
    after        TEXT           -- JSON: the same fields, after; null for a deletion
) STRICT;

CREATE INDEX admin_log_action ON admin_log (action);
CREATE INDEX admin_log_principal_name ON admin_log (principal_name);
CREATE INDEX admin_log_subject_id ON admin_log (subject_id);
CREATE INDEX admin_log_subject_name ON admin_log (subject_name);

CREATE TRIGGER admin_log_is_not_changed BEFORE UPDATE ON admin_log
BEGIN
    SELECT raise(ABORT, 'admin events are not changed');
END;
CREATE TRIGGER admin_log_is_not_deleted BEFORE DELETE ON admin_log
BEGIN
    SELECT raise(ABORT, 'admin events are not deleted');
END;

-- Gateways seen within the last day, one row for each run of a gateway's process. After a restart, the control plane waits
-- for those that may still serve.
CREATE TABLE gateways (
    gateway       TEXT    NOT NULL,
    incarnation   TEXT    NOT NULL, -- 16 hexadecimal digits
    first_seen_at INTEGER NOT NULL,
    last_seen_at  INTEGER NOT NULL, -- to the minute
    token_id      BLOB    CHECK (length(token_id) = 16), -- stays when the token is revoked
    token_digest  BLOB    CHECK (length(token_digest) = 32),
    hung_up_at    INTEGER,          -- end of the connection during a poll, if nothing has arrived since
    busy          INTEGER NOT NULL, -- whether it held undelivered records
    PRIMARY KEY (gateway, incarnation)
) STRICT, WITHOUT ROWID;

CREATE INDEX gateways_last_seen_at ON gateways (last_seen_at);
