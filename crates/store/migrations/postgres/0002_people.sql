-- People: invitations, mail, second factors, sign-in providers.

CREATE TABLE providers (
    id          UUID    PRIMARY KEY,
    name        TEXT    NOT NULL,
    issuer      TEXT    NOT NULL,             -- exactly as the provider's discovery document and its ID tokens say it
    client_id   TEXT    NOT NULL,
    secret      BYTEA,                         -- sealed; absent for a public client
    sealed_by   TEXT,
    scopes      TEXT    NOT NULL,             -- space separated, openid among them
    domains     TEXT    NOT NULL,             -- e-mail domains of those who get an account, space separated; empty: any
    makes_users BOOLEAN NOT NULL,             -- whether somebody unknown gets an account
    role        TEXT    NOT NULL,             -- the role of a user made like that; never super_admin by default
    made_at     BIGINT  NOT NULL,
    CHECK ((secret IS NULL) = (sealed_by IS NULL))
);
CREATE UNIQUE INDEX a6_one_provider_per_issuer ON providers (issuer);

-- A-6: an identity is the pair of issuer and subject. It stays when its provider is removed: the
-- same provider, set up again, is the same authority. It stays when its user is deleted, too: it
-- says who is not let in anew.
CREATE TABLE identities (
    issuer       TEXT    NOT NULL,
    subject      TEXT    NOT NULL,
    user_id      UUID    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    email        TEXT    NOT NULL,            -- as the provider last told it, to be shown; it decides nothing
    linked_at    BIGINT  NOT NULL,
    signed_in_at BIGINT,
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX identities_of_user ON identities (user_id);

ALTER TABLE sessions ADD COLUMN provider_id UUID REFERENCES providers (id) ON DELETE CASCADE;
ALTER TABLE users ADD COLUMN signed_in_at BIGINT;                     -- A-9
ALTER TABLE users ADD COLUMN passkey_alone BOOLEAN NOT NULL DEFAULT FALSE; -- whether a passkey signs in without the password
ALTER TABLE credentials ADD COLUMN notified_days BIGINT;              -- the last reminder that it expires: 30, 7 or 1

-- Links sent by mail: the token is in the mail only.
CREATE TABLE links (
    digest     BYTEA   PRIMARY KEY,           -- of the 256-bit token
    purpose    TEXT    NOT NULL,
    user_id    UUID    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    made_at    BIGINT  NOT NULL,
    expires_at BIGINT  NOT NULL,
    used_at    BIGINT,
    replaced_at BIGINT                        -- a newer link took its place
);
CREATE INDEX links_of_user ON links (user_id, purpose);

-- The outbox. A message may hold a link, so it is sealed, and gone once it was sent.
CREATE TABLE mails (
    id          UUID    PRIMARY KEY,
    recipient   TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    sealed      BYTEA,
    sealed_by   TEXT,
    queued_at   BIGINT  NOT NULL,
    next_try_at BIGINT,                      -- absent when it was sent or given up
    tries       BIGINT  NOT NULL,
    sent_at     BIGINT,
    problem     TEXT    NOT NULL              -- why the last try failed; empty when none did
);
CREATE INDEX mails_due ON mails (next_try_at) WHERE next_try_at IS NOT NULL;

CREATE TABLE totp (
    user_id      UUID    PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    sealed       BYTEA   NOT NULL,
    sealed_by    TEXT    NOT NULL,
    made_at      BIGINT  NOT NULL,
    confirmed_at BIGINT,                     -- absent until the first code was given
    last_step    BIGINT  NOT NULL             -- the last step consumed: a code counts once
);

CREATE TABLE passkeys (
    id            UUID    PRIMARY KEY,
    user_id       UUID    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    credential_id BYTEA   NOT NULL UNIQUE,
    name          TEXT    NOT NULL,
    passkey       TEXT    NOT NULL,           -- the public key and its counter, as JSON
    made_at       BIGINT  NOT NULL,
    used_at       BIGINT
);
CREATE INDEX passkeys_of_user ON passkeys (user_id);

CREATE TABLE recovery_codes (
    digest  BYTEA   PRIMARY KEY,              -- keyed
    user_id UUID    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    made_at BIGINT  NOT NULL,
    used_at BIGINT
);
CREATE INDEX recovery_codes_of_user ON recovery_codes (user_id);

-- What was begun in one browser and is to be finished in it: a sign-in between its steps, a
-- passkey being made, a visit to a provider. Taken once.
CREATE TABLE ceremonies (
    digest     BYTEA   PRIMARY KEY,           -- of a 256-bit secret that only that browser (or the provider) holds
    kind       TEXT    NOT NULL,
    user_id    UUID    REFERENCES users (id) ON DELETE CASCADE,
    sealed     BYTEA   NOT NULL,
    sealed_by  TEXT    NOT NULL,
    begun_at   BIGINT  NOT NULL,
    expires_at BIGINT  NOT NULL
);
CREATE INDEX ceremonies_of_user ON ceremonies (user_id);
