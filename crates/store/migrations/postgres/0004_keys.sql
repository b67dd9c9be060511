-- Signing keys with a life of their own, and the algorithm of each API.

ALTER TABLE apis ADD COLUMN algorithm TEXT NOT NULL DEFAULT 'ES256';

ALTER TABLE signing_keys
    ADD COLUMN public          BYTEA,         -- the public key, sealed so that nobody puts in another; absent until
    ADD COLUMN public_by       TEXT,          -- the server has read a key from before
    -- created_at: in the key set since then
    ADD COLUMN active_at       BIGINT,        -- signs since then
    ADD COLUMN retiring_at     BIGINT,        -- signs no more since then
    ADD COLUMN leaves_at       BIGINT,        -- the last token it signed has ended by then
    ADD COLUMN retired_at      BIGINT,        -- when it was put on record that it has left the key set
    ADD COLUMN withdrawn_at    BIGINT,        -- out of the key set at once
    -- The longest lifespan of an API while it signs. Until now there was one key, and it signs.
    -- Whatever an API's lifespan was before, it was at most 30 days.
    ADD COLUMN longest_seconds BIGINT NOT NULL DEFAULT 2592000,
    -- The private part is gone when the key signs no more.
    ALTER COLUMN sealed DROP NOT NULL,
    ALTER COLUMN sealed_by DROP NOT NULL,
    ADD CHECK ((public IS NULL) = (public_by IS NULL)),
    ADD CHECK ((sealed IS NULL) = (sealed_by IS NULL)),
    ADD CHECK ((retiring_at IS NULL) = (leaves_at IS NULL));
ALTER TABLE signing_keys ALTER COLUMN longest_seconds DROP DEFAULT;
UPDATE signing_keys SET active_at = created_at;
CREATE UNIQUE INDEX protocol26_one_active_key ON signing_keys (algorithm)
    WHERE active_at IS NOT NULL AND retiring_at IS NULL AND withdrawn_at IS NULL;
CREATE UNIQUE INDEX protocol26_one_upcoming_key ON signing_keys (algorithm)
    WHERE active_at IS NULL AND withdrawn_at IS NULL;

-- Counts the changes of the key set, so that a node sees at a glance whether it holds the latest.
CREATE TABLE key_set (
    id      BIGINT PRIMARY KEY CHECK (id = 1),
    version BIGINT NOT NULL
);
INSERT INTO key_set (id, version) VALUES (1, 1);

-- Which master key a recovery code needs; empty where that was not written down.
ALTER TABLE recovery_codes ADD COLUMN digest_key_id TEXT NOT NULL DEFAULT '';
