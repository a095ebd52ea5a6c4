-- A record with folded_calls stands for so many refusals of callers without a known key, from one address (or from
-- several, where source_ip is null) and for one reason, the first of which began at first_time and the last at time. It
-- has no method, path, request_id or endpoint, and its argument_hash is empty.
ALTER TABLE audit_records ADD COLUMN folded_calls INTEGER;
ALTER TABLE audit_records ADD COLUMN first_time INTEGER;

-- buffer_full, vm_lost, or unknown: numbers are missing and nobody has said why.
ALTER TABLE audit_gaps ADD COLUMN cause TEXT NOT NULL DEFAULT 'unknown';
