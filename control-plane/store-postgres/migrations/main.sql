-- Times are milliseconds since 1970-01-01T00:00:00Z, digests are SHA-256. Texts are compared by their bytes (COLLATE "C"), as in
-- the embedded store: the order of lists is the same everywhere, and no update of the system's collations damages an index.

CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE TABLE installation (
    singleton        integer PRIMARY KEY CHECK (singleton = 1),
    id               uuid    NOT NULL,
    key_prefix       text    NOT NULL,
    snapshot_version bigint  NOT NULL,
    published_at     bigint  NOT NULL, -- of that version
    created_at       bigint  NOT NULL
);

-- The process that uses the database. See process_lock.rs.
CREATE TABLE serving_process (
    singleton   integer PRIMARY KEY CHECK (singleton = 1),
    id          uuid    NOT NULL,
    last_change uuid    -- of the last transaction on keys. See last_commit.rs.
);

-- Fails if another process has taken over. Called at the begin of every transaction, under its lock.
CREATE FUNCTION check_process(expected uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM serving_process WHERE id = expected) THEN
        RAISE EXCEPTION 'another process uses the database' USING ERRCODE = 'OMF01';
    END IF;
END
$$;

-- Whether the last transaction on keys is this one. Null while one is open: it may be this one, and commit. The lock is taken
-- first, because a statement sees what was committed before it began.
CREATE FUNCTION last_change_is(expected uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(7302502, 1) THEN
        RETURN NULL;
    END IF;
    RETURN EXISTS (SELECT FROM serving_process WHERE last_change = expected);
END
$$;

CREATE TABLE policy_versions (
    version    bigint PRIMARY KEY,
    document   text   NOT NULL, -- JSON
    created_by text   NOT NULL,
    created_at bigint NOT NULL
);

CREATE TABLE tokens (
    id         uuid   PRIMARY KEY,
    name       text   COLLATE "C" NOT NULL UNIQUE,
    role       text   NOT NULL,
    gateways   text   NOT NULL, -- patterns of gateway names, separated by spaces; empty for any
    digest     bytea  NOT NULL UNIQUE CHECK (length(digest) = 32),
    created_by text   NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint
);

CREATE TABLE keys (
    id           uuid   PRIMARY KEY,
    place        bigint GENERATED ALWAYS AS IDENTITY UNIQUE, -- divides all keys into blocks, with gaps
    name         text   COLLATE "C" NOT NULL UNIQUE,
    environment  text   NOT NULL,
    scopes       text   COLLATE "C" NOT NULL, -- joined by single spaces
    per_minute   bigint,
    per_hour     bigint,
    burst        bigint,
    ip_allowlist text   NOT NULL, -- networks joined by single spaces, empty for any address
    description  text   COLLATE "C",
    created_by   text   NOT NULL,
    created_at   bigint NOT NULL,
    expires_at   bigint,
    revision     bigint NOT NULL DEFAULT 1 -- incremented by every change, so that admins do not overwrite each other
);

CREATE INDEX keys_expires_at ON keys (expires_at) WHERE expires_at IS NOT NULL;

-- Text search by any three consecutive characters.
CREATE INDEX keys_name_text ON keys USING gin (lower(name) gin_trgm_ops);
CREATE INDEX keys_description_text ON keys USING gin (lower(description) gin_trgm_ops);

CREATE TABLE key_versions (
    key_id     uuid    NOT NULL REFERENCES keys (id) ON DELETE CASCADE,
    version    integer NOT NULL CHECK (version BETWEEN 1 AND 65535),
    digest     bytea   NOT NULL UNIQUE CHECK (length(digest) = 32),
    hint       text    COLLATE "C" NOT NULL,
    created_at bigint  NOT NULL,
    expires_at bigint,
    revoked_at bigint,
    imported   boolean NOT NULL DEFAULT false, -- issued by another system; accepted only if the policy has imported_keys
    PRIMARY KEY (key_id, version)
);

CREATE INDEX key_versions_imported ON key_versions (key_id) WHERE imported AND revoked_at IS NULL;
CREATE INDEX key_versions_hint ON key_versions (hint);

-- Browser sessions. The digest is of the session's identifier, which only the browser has. A session ends with its token.
CREATE TABLE sessions (
    digest     bytea  PRIMARY KEY CHECK (length(digest) = 32),
    token_id   uuid   NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    created_at bigint NOT NULL,
    seen_at    bigint NOT NULL -- last use, to the minute
);

CREATE INDEX sessions_token_id ON sessions (token_id);

-- Creates that clients may retry. Responses contain secrets and are not stored.
CREATE TABLE idempotency (
    token_id       uuid   NOT NULL,
    key_digest     bytea  NOT NULL CHECK (length(key_digest) = 32),
    request_digest bytea  NOT NULL CHECK (length(request_digest) = 32),
    created        text   NOT NULL, -- kind and identifiers, in JSON
    created_at     bigint NOT NULL,
    PRIMARY KEY (token_id, key_digest)
);

CREATE INDEX idempotency_created_at ON idempotency (created_at);

-- The admin log: every change with the principal who made it, written in the transaction of the change, never altered.
CREATE TABLE admin_log (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    time           bigint NOT NULL,
    principal_id   uuid,          -- the token; null for the first start
    principal_name text   COLLATE "C" NOT NULL,
    action         text   COLLATE "C" NOT NULL,
    subject_id     text   COLLATE "C" NOT NULL,
    subject_name   text   COLLATE "C" NOT NULL,
    before         text,          -- JSON: the fields that changed, before; null for a creation
    after          text           -- JSON: the same fields, after; null for a deletion
);

CREATE INDEX admin_log_action ON admin_log (action, id);
CREATE INDEX admin_log_principal_name ON admin_log (principal_name, id);
CREATE INDEX admin_log_subject_id ON admin_log (subject_id, id);
CREATE INDEX admin_log_subject_name ON admin_log (subject_name, id);

CREATE FUNCTION refuse_admin_log_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'admin events are not changed or deleted';
END
$$;

CREATE TRIGGER admin_log_is_not_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON admin_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_admin_log_change();

-- Gateways seen within the last day, one row for each run of a gateway's process. After a restart, the control plane waits
-- for those that may still serve.
CREATE TABLE gateways (
    gateway       text    COLLATE "C" NOT NULL,
    incarnation   text    COLLATE "C" NOT NULL, -- 16 hexadecimal digits
    first_seen_at bigint  NOT NULL,
    last_seen_at  bigint  NOT NULL, -- to the minute
    token_id      uuid,             -- stays when the token is revoked
    token_digest  bytea   CHECK (length(token_digest) = 32),
    hung_up_at    bigint,           -- end of the connection during a poll, if nothing has arrived since
    busy          boolean NOT NULL, -- whether it held undelivered records
    PRIMARY KEY (gateway, incarnation)
);

CREATE INDEX gateways_last_seen_at ON gateways (last_seen_at);
