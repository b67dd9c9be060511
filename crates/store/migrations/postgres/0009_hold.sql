-- Backup, restore and the hold (H-1): a database that may be older than what was acknowledged stops until the operator
-- has said what was stopped since.

ALTER TABLE installation ADD COLUMN place TEXT;          -- where the database lives; a copy elsewhere is told by it (H-4)
ALTER TABLE installation ADD COLUMN timeline BIGINT;    -- PostgreSQL's, when it was last looked at
ALTER TABLE installation ADD COLUMN held_since BIGINT;  -- on hold since then
ALTER TABLE installation ADD COLUMN held_why TEXT;
ALTER TABLE installation ADD COLUMN held_after BIGINT;  -- the last audit record before the hold
-- Random, and new with each hold: numbers of the audit log are of one line only. 0 until the first hold.
ALTER TABLE installation ADD COLUMN line BIGINT NOT NULL DEFAULT 0;
-- Where the line before this one ended, for who noted something of that one: the line, and its last record that is in
-- this one.
ALTER TABLE installation ADD COLUMN line_before BIGINT;

-- A release that does not know the hold must not start on a database that is on hold.
UPDATE schema_works_with SET oldest = 9;
