-- With status, latency and folded calls at hand, what a key's calls or all calls of a time amount to is counted from the index alone.
-- The id before them keeps the order of pages, (…, time, id).

DROP INDEX audit_records_time;
CREATE INDEX audit_records_time ON audit_records (time, id, status, latency_us, folded_calls);
DROP INDEX audit_records_key;
CREATE INDEX audit_records_key ON audit_records (key_id, time, id, status, latency_us, folded_calls) WHERE key_id IS NOT NULL;
DROP INDEX audit_records_key_name;
CREATE INDEX audit_records_key_name ON audit_records (key_name, time, id, status, latency_us, folded_calls)
    WHERE key_name IS NOT NULL;
