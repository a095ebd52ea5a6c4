-- The gateways that were heard of in the last day, each run of a gateway's process once. A restarted control plane
-- waits for those that may still serve.
CREATE TABLE gateways (
    gateway       TEXT    NOT NULL,
    incarnation   TEXT    NOT NULL, -- 16 hexadecimal digits
    first_seen_at INTEGER NOT NULL,
    last_seen_at  INTEGER NOT NULL, -- to the minute or so
    PRIMARY KEY (gateway, incarnation)
) STRICT, WITHOUT ROWID;

CREATE INDEX gateways_last_seen_at ON gateways (last_seen_at);
