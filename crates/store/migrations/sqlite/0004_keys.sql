-- Signing keys with a life of their own, and the algorithm of each API.

ALTER TABLE apis ADD COLUMN algorithm TEXT NOT NULL DEFAULT 'ES256';

CREATE TABLE signing_keys_with_a_life (
    kid             TEXT    PRIMARY KEY,
    algorithm       TEXT    NOT NULL,
    public          BLOB,                     -- the public key, sealed so that nobody puts in another; absent until
    public_by       TEXT,                     -- the server has read a key from before
    created_at      INTEGER NOT NULL,         -- in the key set since then
    active_at       INTEGER,                  -- signs since then
    retiring_at     INTEGER,                  -- signs no more since then
    leaves_at       INTEGER,                  -- the last token it signed has ended by then
    retired_at      INTEGER,                  -- when it was put on record that it has left the key set
    withdrawn_at    INTEGER,                  -- out of the key set at once
    longest_seconds INTEGER NOT NULL,         -- the longest lifespan of an API while it signs
    sealed          BLOB,                     -- the private part, gone when it signs no more
    sealed_by       TEXT,
    CHECK ((public IS NULL) = (public_by IS NULL)),
    CHECK ((sealed IS NULL) = (sealed_by IS NULL)),
    CHECK ((retiring_at IS NULL) = (leaves_at IS NULL))
) STRICT;
-- Until now there was one key, and it signs. Whatever an API's lifespan was before, it was at most 30 days.
INSERT INTO signing_keys_with_a_life (kid, algorithm, created_at, active_at, longest_seconds, sealed, sealed_by)
SELECT kid, algorithm, created_at, created_at, 2592000, sealed, sealed_by FROM signing_keys;
DROP TABLE signing_keys;
ALTER TABLE signing_keys_with_a_life RENAME TO signing_keys;
CREATE UNIQUE INDEX protocol26_one_active_key ON signing_keys (algorithm)
    WHERE active_at IS NOT NULL AND retiring_at IS NULL AND withdrawn_at IS NULL;
CREATE UNIQUE INDEX protocol26_one_upcoming_key ON signing_keys (algorithm)
    WHERE active_at IS NULL AND withdrawn_at IS NULL;

-- Counts the changes of the key set, so that a node sees at a glance whether it holds the latest.
CREATE TABLE key_set (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL
) STRICT;
INSERT INTO key_set (id, version) VALUES (1, 1);

-- Which master key a recovery code needs; empty where that was not written down.
ALTER TABLE recovery_codes ADD COLUMN digest_key_id TEXT NOT NULL DEFAULT '';
