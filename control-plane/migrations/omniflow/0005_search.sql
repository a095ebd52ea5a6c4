-- Search: names and descriptions by any three characters of them in a row, hints as they are.
-- The index refers to keys by their rowid. Keys are never deleted, so rowids count from 1 without a gap, in a copy that
-- VACUUM makes as well.
CREATE VIRTUAL TABLE key_texts USING fts5 (
    name, description, content = 'keys', tokenize = 'trigram', detail = 'none', columnsize = 0
);
INSERT INTO key_texts (key_texts) VALUES ('rebuild');

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

CREATE INDEX key_versions_hint ON key_versions (hint);
