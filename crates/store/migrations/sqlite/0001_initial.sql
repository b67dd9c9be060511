-- All instants are BIGINT microseconds since the epoch, UTC. The PostgreSQL text beside this one
-- says the same with its own type names.
PRAGMA application_id = 1346587731; -- "PCLS": tells this database from a foreign file

CREATE TABLE installation (
    id            INTEGER PRIMARY KEY CHECK (id = 1),
    name          BLOB    NOT NULL,           -- random; the set-up link hangs on it
    master_key_id TEXT    NOT NULL,           -- the key that must be in the ring for this database
    created_at    INTEGER NOT NULL,
    set_up_at     INTEGER                     -- when the first Super Admin was made
) STRICT;

CREATE TABLE users (
    id            BLOB    PRIMARY KEY,
    email         TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    name_sought   TEXT    NOT NULL,           -- the name in lower case: LOWER differs between databases
    language      TEXT    NOT NULL,
    time_zone     TEXT    NOT NULL,
    role          TEXT    NOT NULL,
    role_since    INTEGER NOT NULL,
    status        TEXT    NOT NULL,
    status_since  INTEGER NOT NULL,
    mfa_since     INTEGER,
    password_hash TEXT,                       -- Argon2id, PHC form; absent for federated-only users
    created_at    INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX a2_one_account_per_email ON users (email) WHERE status <> 'deleted';

CREATE TABLE sessions (
    digest      BLOB    PRIMARY KEY,          -- of the 256-bit id in the cookie
    handle      BLOB    NOT NULL UNIQUE,
    user_id     BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    opened      TEXT    NOT NULL,
    opened_at   INTEGER NOT NULL,
    seen_at     INTEGER NOT NULL,
    password_at INTEGER,
    ip          TEXT    NOT NULL,
    user_agent  TEXT    NOT NULL
) STRICT;
CREATE INDEX sessions_of_user ON sessions (user_id);

CREATE TABLE sign_in_failures (
    counted  BLOB    PRIMARY KEY,             -- keyed digest of the account, or of account and network
    failures INTEGER NOT NULL,
    last_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE known_networks (
    name    BLOB    PRIMARY KEY,              -- keyed digest of an account and a network it signed in from
    seen_at INTEGER NOT NULL
) STRICT;

CREATE TABLE credentials (
    id             BLOB    PRIMARY KEY,
    owner_id       BLOB    NOT NULL REFERENCES users (id),
    client_id      TEXT    NOT NULL UNIQUE,
    digest         BLOB    NOT NULL,          -- C-5: HMAC-SHA-256, the key is elsewhere
    digest_key_id  TEXT    NOT NULL,
    generated_at   INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL,
    revoked_at     INTEGER,
    revoked_reason TEXT,
    retired_at     INTEGER,                   -- expired, and gave its place to a new one (C-6)
    CHECK ((revoked_at IS NULL) = (revoked_reason IS NULL))
) STRICT;
CREATE UNIQUE INDEX c1_one_active_credential ON credentials (owner_id)
    WHERE revoked_at IS NULL AND retired_at IS NULL;

-- Nobody's credential: read in place of an unknown one, so that both take as long (protocol 9).
INSERT INTO users (id, email, name, name_sought, language, time_zone, role, role_since, status, status_since, created_at)
VALUES (zeroblob(16), 'nobody@portcullis.invalid', 'Nobody', 'nobody', 'en-001', 'UTC', 'user', 0, 'deleted', 0, 0);
INSERT INTO credentials (id, owner_id, client_id, digest, digest_key_id, generated_at, expires_at,
                         revoked_at, revoked_reason)
VALUES (zeroblob(16), zeroblob(16), 'pcc_00000000000000000000', zeroblob(32), '', 0, 0, 0, 'owner_deleted');

CREATE TABLE issued_tokens (
    jti           BLOB    PRIMARY KEY,
    credential_id BLOB    NOT NULL REFERENCES credentials (id),
    issued_at     INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,
    revoked_at    INTEGER,
    ip            TEXT    NOT NULL,
    user_agent    TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX issued_tokens_of_credential ON issued_tokens (credential_id, issued_at);

CREATE TABLE signing_keys (
    kid        TEXT    PRIMARY KEY,
    algorithm  TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    sealed     BLOB    NOT NULL,
    sealed_by  TEXT    NOT NULL
) STRICT;

CREATE TABLE audit_records (
    seq        INTEGER PRIMARY KEY,
    at         INTEGER NOT NULL,
    by_kind    TEXT    NOT NULL,
    by_id      TEXT    NOT NULL,
    ip         TEXT    NOT NULL,
    user_agent TEXT    NOT NULL,
    event      TEXT    NOT NULL,
    subject    TEXT    NOT NULL,
    outcome    TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    details    TEXT    NOT NULL,
    link       BLOB    NOT NULL,              -- L-3
    key_id     TEXT    NOT NULL
) STRICT;
CREATE INDEX audit_records_by ON audit_records (by_id, seq);
CREATE INDEX audit_records_subject ON audit_records (subject, seq);
CREATE INDEX audit_records_event ON audit_records (event, seq);
CREATE INDEX audit_records_at ON audit_records (at);

CREATE TABLE audit_head (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    seq          INTEGER NOT NULL,
    link         BLOB    NOT NULL,
    trimmed_seq  INTEGER NOT NULL,            -- records up to this one were dropped by age
    trimmed_link BLOB    NOT NULL,
    seal         BLOB    NOT NULL,           -- over all of these (L-3); empty while there are no records
    key_id       TEXT    NOT NULL
) STRICT;
INSERT INTO audit_head (id, seq, link, trimmed_seq, trimmed_link, seal, key_id) VALUES (1, 0, zeroblob(32), 0, zeroblob(32), x'', '');
