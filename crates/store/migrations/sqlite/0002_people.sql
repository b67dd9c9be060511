-- People: invitations, mail, second factors, sign-in providers.

CREATE TABLE providers (
    id          BLOB    PRIMARY KEY,
    name        TEXT    NOT NULL,
    issuer      TEXT    NOT NULL,             -- exactly as the provider's discovery document and its ID tokens say it
    client_id   TEXT    NOT NULL,
    secret      BLOB,                         -- sealed; absent for a public client
    sealed_by   TEXT,
    scopes      TEXT    NOT NULL,             -- space separated, openid among them
    domains     TEXT    NOT NULL,             -- e-mail domains of those who get an account, space separated; empty: any
    makes_users INTEGER NOT NULL,             -- whether somebody unknown gets an account
    role        TEXT    NOT NULL,             -- the role of a user made like that; never super_admin by default
    made_at     INTEGER NOT NULL,
    CHECK ((secret IS NULL) = (sealed_by IS NULL))
) STRICT;
CREATE UNIQUE INDEX a6_one_provider_per_issuer ON providers (issuer);

-- A-6: an identity is the pair of issuer and subject. It stays when its provider is removed: the
-- same provider, set up again, is the same authority. It stays when its user is deleted, too: it
-- says who is not let in anew.
CREATE TABLE identities (
    issuer       TEXT    NOT NULL,
    subject      TEXT    NOT NULL,
    user_id      BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    email        TEXT    NOT NULL,            -- as the provider last told it, to be shown; it decides nothing
    linked_at    INTEGER NOT NULL,
    signed_in_at INTEGER,
    PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX identities_of_user ON identities (user_id);

ALTER TABLE sessions ADD COLUMN provider_id BLOB REFERENCES providers (id) ON DELETE CASCADE;
ALTER TABLE users ADD COLUMN signed_in_at INTEGER;                     -- A-9
ALTER TABLE users ADD COLUMN passkey_alone INTEGER NOT NULL DEFAULT 0; -- whether a passkey signs in without the password
ALTER TABLE credentials ADD COLUMN notified_days INTEGER;              -- the last reminder that it expires: 30, 7 or 1

-- Links sent by mail: the token is in the mail only.
CREATE TABLE links (
    digest     BLOB    PRIMARY KEY,           -- of the 256-bit token
    purpose    TEXT    NOT NULL,
    user_id    BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    made_at    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER,
    replaced_at INTEGER                       -- a newer link took its place
) STRICT;
CREATE INDEX links_of_user ON links (user_id, purpose);

-- The outbox. A message may hold a link, so it is sealed, and gone once it was sent.
CREATE TABLE mails (
    id          BLOB    PRIMARY KEY,
    recipient   TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    sealed      BLOB,
    sealed_by   TEXT,
    queued_at   INTEGER NOT NULL,
    next_try_at INTEGER,                      -- absent when it was sent or given up
    tries       INTEGER NOT NULL,
    sent_at     INTEGER,
    problem     TEXT    NOT NULL              -- why the last try failed; empty when none did
) STRICT;
CREATE INDEX mails_due ON mails (next_try_at) WHERE next_try_at IS NOT NULL;

CREATE TABLE totp (
    user_id      BLOB    PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    sealed       BLOB    NOT NULL,
    sealed_by    TEXT    NOT NULL,
    made_at      INTEGER NOT NULL,
    confirmed_at INTEGER,                     -- absent until the first code was given
    last_step    INTEGER NOT NULL             -- the last step consumed: a code counts once
) STRICT;

CREATE TABLE passkeys (
    id            BLOB    PRIMARY KEY,
    user_id       BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    credential_id BLOB    NOT NULL UNIQUE,
    name          TEXT    NOT NULL,
    passkey       TEXT    NOT NULL,           -- the public key and its counter, as JSON
    made_at       INTEGER NOT NULL,
    used_at       INTEGER
) STRICT;
CREATE INDEX passkeys_of_user ON passkeys (user_id);

CREATE TABLE recovery_codes (
    digest  BLOB    PRIMARY KEY,              -- keyed
    user_id BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    made_at INTEGER NOT NULL,
    used_at INTEGER
) STRICT;
CREATE INDEX recovery_codes_of_user ON recovery_codes (user_id);

-- What was begun in one browser and is to be finished in it: a sign-in between its steps, a
-- passkey being made, a visit to a provider. Taken once.
CREATE TABLE ceremonies (
    digest     BLOB    PRIMARY KEY,           -- of a 256-bit secret that only that browser (or the provider) holds
    kind       TEXT    NOT NULL,
    user_id    BLOB    REFERENCES users (id) ON DELETE CASCADE,
    sealed     BLOB    NOT NULL,
    sealed_by  TEXT    NOT NULL,
    begun_at   INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX ceremonies_of_user ON ceremonies (user_id);
