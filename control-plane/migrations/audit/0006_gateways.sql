-- How far each run of a gateway's process had come by its last word, so that what it took along is known when it is gone.
CREATE TABLE audit_gateways (
    gateway     TEXT    NOT NULL,
    incarnation TEXT    NOT NULL, -- 16 hexadecimal digits
    clock       INTEGER NOT NULL, -- of the word: the later of two has the higher number
    time        INTEGER NOT NULL, -- of the word, by the gateway's clock
    heard_at    INTEGER NOT NULL, -- by this side's
    settled     INTEGER NOT NULL,
    vms         TEXT    NOT NULL, -- JSON
    gap         INTEGER,          -- of audit_gaps, if it counts as lost
    PRIMARY KEY (gateway, incarnation)
) STRICT, WITHOUT ROWID;
CREATE INDEX audit_gateways_open ON audit_gateways (heard_at) WHERE settled = 0 AND gap IS NULL;
CREATE INDEX audit_gateways_heard ON audit_gateways (heard_at);

-- When the first call of the last batch began; null where no batch has come since this is noted.
ALTER TABLE audit_streams ADD COLUMN since INTEGER;

-- A gap of a whole gateway has an empty vm. Of some it is only known that so many are missing at least.
ALTER TABLE audit_gaps ADD COLUMN at_least INTEGER NOT NULL DEFAULT 0;
-- The number of an earlier gap that turned out to be none. Such a row is no gap itself.
ALTER TABLE audit_gaps ADD COLUMN withdraws INTEGER;

-- All gaps there ever were, those that are purged or withdrawn included.
CREATE TABLE gap_totals (
    cause TEXT    NOT NULL PRIMARY KEY,
    gaps  INTEGER NOT NULL,
    calls INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO gap_totals SELECT cause, count(*), sum(missing) FROM audit_gaps GROUP BY cause;

-- How far the export of the log has come. No row before it was first set up.
CREATE TABLE audit_export (
    id       INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    record   INTEGER NOT NULL, -- the last that was taken, of audit_records
    gap      INTEGER NOT NULL, -- the same of audit_gaps
    exported INTEGER NOT NULL, -- all that were ever taken
    rejected INTEGER NOT NULL, -- those that the receiver did not want
    purged   INTEGER NOT NULL  -- those that were too old before they could be sent
) STRICT;
