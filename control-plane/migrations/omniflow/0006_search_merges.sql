-- The index of names is written in segments, which have to be merged now and then. Left to itself, SQLite does it in the
-- transaction of whoever adds every 64th key, which took up to 78 ms at a million keys. Now it is done beside the changes, in
-- small steps: see Writer::merge_search_segments. Whoever adds the sixteenth of a kind of segments still merges those.
INSERT INTO key_texts (key_texts, rank) VALUES ('automerge', 0);
