-- Counts the changes of a key, so that two admins do not overwrite each other.
ALTER TABLE keys ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;

-- Whether a version is of another system: gateways take its secret only where the policy has imported_keys.
ALTER TABLE key_versions ADD COLUMN imported INTEGER NOT NULL DEFAULT 0;
CREATE INDEX key_versions_imported ON key_versions (key_id) WHERE imported = 1 AND revoked_at IS NULL;

-- The admins' own trail: every change with who made it. Written together with the change, and never altered.
CREATE TABLE events (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    time         INTEGER NOT NULL,
    actor_id     BLOB,          -- the token; null for the first start
    actor_name   TEXT    NOT NULL,
    action       TEXT    NOT NULL,
    subject_id   TEXT    NOT NULL,
    subject_name TEXT    NOT NULL,
    before       TEXT,          -- JSON: what was otherwise before; null where there was nothing
    after        TEXT           -- JSON: what is otherwise since; null where nothing is left
) STRICT;

CREATE INDEX events_action ON events (action);
CREATE INDEX events_actor_name ON events (actor_name);
CREATE INDEX events_subject_id ON events (subject_id);
CREATE INDEX events_subject_name ON events (subject_name);

CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events
BEGIN
    SELECT raise(ABORT, 'events are not changed');
END;
CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events
BEGIN
    SELECT raise(ABORT, 'events are not deleted');
END;

-- Creates that may be repeated by their callers. Digests are SHA-256; answers, which hold secrets, are not kept here.
CREATE TABLE idempotency (
    token_id       BLOB    NOT NULL,
    key_digest     BLOB    NOT NULL CHECK (length(key_digest) = 32),
    request_digest BLOB    NOT NULL CHECK (length(request_digest) = 32),
    location       TEXT    NOT NULL,
    created_at     INTEGER NOT NULL,
    PRIMARY KEY (token_id, key_digest)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_created_at ON idempotency (created_at);
CREATE INDEX keys_expires_at ON keys (expires_at) WHERE expires_at IS NOT NULL;
