-- Growth: what is asked for often is found without a look through all there is.

-- The earliest and the latest instant of each whole run of 2048 audit records, by number / 2048: a filter by
-- time finds its records by it, also where a clock was set back. Made afterwards, by whoever tidies up.
CREATE TABLE audit_runs (
    run      INTEGER PRIMARY KEY,
    earliest INTEGER NOT NULL,
    latest   INTEGER NOT NULL
) STRICT;

-- On PostgreSQL these are made by the program beside whatever else goes on: src/indexes.rs.
CREATE INDEX audit_records_outcome ON audit_records (outcome, seq);
CREATE INDEX users_of_status ON users (status, id);
CREATE INDEX users_of_role ON users (role, status);
CREATE INDEX credentials_expire ON credentials (expires_at) WHERE revoked_at IS NULL AND retired_at IS NULL;
CREATE INDEX credentials_need_key ON credentials (digest_key_id, expires_at) WHERE revoked_at IS NULL AND retired_at IS NULL;
CREATE INDEX recovery_codes_need_key ON recovery_codes (digest_key_id) WHERE used_at IS NULL;
CREATE INDEX totp_needs_key ON totp (sealed_by);
CREATE INDEX sessions_seen ON sessions (seen_at);
CREATE INDEX sessions_opened ON sessions (opened_at);
CREATE INDEX sign_in_failures_last ON sign_in_failures (last_at);
CREATE INDEX known_networks_seen ON known_networks (seen_at);
CREATE INDEX ceremonies_end ON ceremonies (expires_at);
CREATE INDEX links_end ON links (expires_at);
CREATE INDEX mails_at_rest ON mails (queued_at) WHERE next_try_at IS NULL;
