-- Browsers that are signed in. The digest is of the session's identifier, which only its browser has. A session ends
-- with its token.
CREATE TABLE sessions (
    digest     BLOB    PRIMARY KEY CHECK (length(digest) = 32),
    token_id   BLOB    NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL -- when a page was last asked for, to the minute or so
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_token_id ON sessions (token_id);
