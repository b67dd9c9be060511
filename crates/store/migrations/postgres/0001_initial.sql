-- All instants are BIGINT microseconds since the epoch, UTC. The SQLite text beside this one
-- says the same with its own type names.

CREATE TABLE installation (
    id            BIGINT  PRIMARY KEY CHECK (id = 1),
    name          BYTEA   NOT NULL,           -- random; the set-up link hangs on it
    master_key_id TEXT    NOT NULL,           -- the key that must be in the ring for this database
    created_at    BIGINT  NOT NULL,
    set_up_at     BIGINT  -- when the first Super Admin was made
);

CREATE TABLE users (
    id            UUID    PRIMARY KEY,
    email         TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    name_sought   TEXT    NOT NULL,           -- the name in lower case: LOWER differs between databases
    language      TEXT    NOT NULL,
    time_zone     TEXT    NOT NULL,
    role          TEXT    NOT NULL,
    role_since    BIGINT  NOT NULL,
    status        TEXT    NOT NULL,
    status_since  BIGINT  NOT NULL,
    mfa_since     BIGINT,
    password_hash TEXT,                       -- Argon2id, PHC form; absent for federated-only users
    created_at    BIGINT  NOT NULL
);
CREATE UNIQUE INDEX a2_one_account_per_email ON users (email) WHERE status <> 'deleted';

CREATE TABLE sessions (
    digest      BYTEA   PRIMARY KEY,          -- of the 256-bit id in the cookie
    handle      UUID    NOT NULL UNIQUE,
    user_id     UUID    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    opened      TEXT    NOT NULL,
    opened_at   BIGINT  NOT NULL,
    seen_at     BIGINT  NOT NULL,
    password_at BIGINT,
    ip          TEXT    NOT NULL,
    user_agent  TEXT    NOT NULL
);
CREATE INDEX sessions_of_user ON sessions (user_id);

CREATE TABLE sign_in_failures (
    counted  BYTEA   PRIMARY KEY,             -- keyed digest of the account, or of account and network
    failures BIGINT  NOT NULL,
    last_at  BIGINT  NOT NULL
);

CREATE TABLE known_networks (
    name    BYTEA    PRIMARY KEY,              -- keyed digest of an account and a network it signed in from
    seen_at BIGINT NOT NULL
);

CREATE TABLE credentials (
    id             UUID    PRIMARY KEY,
    owner_id       UUID    NOT NULL REFERENCES users (id),
    client_id      TEXT    NOT NULL UNIQUE,
    digest         BYTEA   NOT NULL,          -- C-5: HMAC-SHA-256, the key is elsewhere
    digest_key_id  TEXT    NOT NULL,
    generated_at   BIGINT  NOT NULL,
    expires_at     BIGINT  NOT NULL,
    revoked_at     BIGINT,
    revoked_reason TEXT,
    retired_at     BIGINT,                   -- expired, and gave its place to a new one (C-6)
    CHECK ((revoked_at IS NULL) = (revoked_reason IS NULL))
);
CREATE UNIQUE INDEX c1_one_active_credential ON credentials (owner_id)
    WHERE revoked_at IS NULL AND retired_at IS NULL;

-- Nobody's credential: read in place of an unknown one, so that both take as long (protocol 9).
INSERT INTO users (id, email, name, name_sought, language, time_zone, role, role_since, status, status_since, created_at)
VALUES ('00000000-0000-0000-0000-000000000000', 'nobody@portcullis.invalid', 'Nobody', 'nobody', 'en-001', 'UTC', 'user', 0, 'deleted', 0, 0);
INSERT INTO credentials (id, owner_id, client_id, digest, digest_key_id, generated_at, expires_at,
                         revoked_at, revoked_reason)
VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-000000000000', 'pcc_00000000000000000000', decode(repeat('00', 32), 'hex'), '', 0, 0, 0, 'owner_deleted');

CREATE TABLE issued_tokens (
    jti           UUID    PRIMARY KEY,
    credential_id UUID    NOT NULL REFERENCES credentials (id),
    issued_at     BIGINT  NOT NULL,
    expires_at    BIGINT  NOT NULL,
    revoked_at    BIGINT,
    ip            TEXT    NOT NULL,
    user_agent    TEXT    NOT NULL
);
CREATE INDEX issued_tokens_of_credential ON issued_tokens (credential_id, issued_at);

CREATE TABLE signing_keys (
    kid        TEXT    PRIMARY KEY,
    algorithm  TEXT    NOT NULL,
    created_at BIGINT  NOT NULL,
    sealed     BYTEA   NOT NULL,
    sealed_by  TEXT    NOT NULL
);

CREATE TABLE audit_records (
    seq        BIGINT  PRIMARY KEY,
    at         BIGINT  NOT NULL,
    by_kind    TEXT    NOT NULL,
    by_id      TEXT    NOT NULL,
    ip         TEXT    NOT NULL,
    user_agent TEXT    NOT NULL,
    event      TEXT    NOT NULL,
    subject    TEXT    NOT NULL,
    outcome    TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    details    TEXT    NOT NULL,
    link       BYTEA   NOT NULL,              -- L-3
    key_id     TEXT    NOT NULL
);
CREATE INDEX audit_records_by ON audit_records (by_id, seq);
CREATE INDEX audit_records_subject ON audit_records (subject, seq);
CREATE INDEX audit_records_event ON audit_records (event, seq);
CREATE INDEX audit_records_at ON audit_records (at);

CREATE TABLE audit_head (
    id           BIGINT  PRIMARY KEY CHECK (id = 1),
    seq          BIGINT  NOT NULL,
    link         BYTEA   NOT NULL,
    trimmed_seq  BIGINT  NOT NULL,            -- records up to this one were dropped by age
    trimmed_link BYTEA   NOT NULL,
    seal         BYTEA    NOT NULL,           -- over all of these (L-3); empty while there are no records
    key_id       TEXT    NOT NULL
);
INSERT INTO audit_head (id, seq, link, trimmed_seq, trimmed_link, seal, key_id) VALUES (1, 0, decode(repeat('00', 32), 'hex'), 0, decode(repeat('00', 32), 'hex'), '', '');
