-- APIs: what tokens are for, and the keys they ask about their tokens with.

CREATE TABLE apis (
    id               BLOB    PRIMARY KEY,     -- all zeros: the product's own
    name             TEXT    NOT NULL,
    identifier       TEXT    NOT NULL,        -- the audience of its tokens; never changes
    scopes           TEXT    NOT NULL,        -- one a line: the name, a space, what it allows; empty for the product's own
    lifespan_seconds INTEGER,                 -- T-1; absent for the product's own
    made_at          INTEGER NOT NULL,
    removed_at       INTEGER,                 -- the row stays: tokens on record name it (L-4)
    CHECK (removed_at IS NULL OR id <> x'00000000000000000000000000000000')
) STRICT;
CREATE UNIQUE INDEX t2_one_api_per_identifier ON apis (identifier) WHERE removed_at IS NULL;

CREATE TABLE api_keys (
    id            TEXT    PRIMARY KEY,
    api_id        BLOB    NOT NULL REFERENCES apis (id),
    place         INTEGER NOT NULL CHECK (place IN (1, 2)), -- at most two keys an API
    digest        BLOB    NOT NULL,           -- HMAC-SHA-256, the key is elsewhere
    digest_key_id TEXT    NOT NULL,
    made_at       INTEGER NOT NULL,
    ends_at       INTEGER,                    -- once a newer one took over
    UNIQUE (api_id, place)
) STRICT;

-- Nobody's key: read in place of an unknown one, so that both take as long (protocol 9).
INSERT INTO apis (id, name, identifier, scopes, made_at, removed_at)
VALUES (x'ffffffffffffffffffffffffffffffff', 'Nobody', '', '', 0, 0);
INSERT INTO api_keys (id, api_id, place, digest, digest_key_id, made_at, ends_at)
VALUES ('pca_00000000000000000000', x'ffffffffffffffffffffffffffffffff', 1, zeroblob(32), '', 0, 0);

-- Which API a token is for (L-4). Not a foreign key: rows of apis are never deleted, and checking it
-- would make every token of an API lock the same row. Tokens from before are for the product's own.
ALTER TABLE issued_tokens ADD COLUMN api_id BLOB NOT NULL DEFAULT x'00000000000000000000000000000000';
