-- Keys in place of the Client Secret, what may be used once, and APIs that take bound tokens alone.

ALTER TABLE credentials ADD COLUMN key_jwk TEXT;              -- the public key that is bound (C-14)
ALTER TABLE credentials ADD COLUMN key_thumbprint TEXT;       -- RFC 7638
ALTER TABLE credentials ADD COLUMN key_bound_at INTEGER;
ALTER TABLE credentials ADD COLUMN secret_off_at INTEGER      -- absent: the secret works
    CONSTRAINT c15_a_way_in_stays CHECK (secret_off_at IS NULL OR key_jwk IS NOT NULL);

-- With what the client proved itself (C-13). Tokens from before were issued for the secret.
ALTER TABLE issued_tokens ADD COLUMN method TEXT NOT NULL DEFAULT 'client_secret';

-- T-5. The product's own API takes any token.
ALTER TABLE apis ADD COLUMN requires_dpop INTEGER NOT NULL DEFAULT 0;

-- Assertions and proofs that were used, until they have ended: no node takes one twice (protocol 27, 28).
CREATE TABLE used_proofs (
    digest  BLOB    PRIMARY KEY,              -- SHA-256 of kind, signer and id
    ends_at INTEGER NOT NULL
) STRICT;
CREATE INDEX used_proofs_end ON used_proofs (ends_at);
