-- What verifiers are told of who do not ask: how each credential stands, and which tokens were revoked by themselves.

-- The place of a credential in the status list (protocol 29): given when it is generated, never again to another.
-- Place 0 is nobody's; a node from before, which gives no place, is refused by the index.
ALTER TABLE credentials ADD COLUMN status_index BIGINT NOT NULL DEFAULT 0;
UPDATE credentials SET status_index = o.place
FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY generated_at, id) - 1 AS place FROM credentials) o WHERE o.id = credentials.id;
CREATE UNIQUE INDEX one_place_per_credential ON credentials (status_index);

-- Found by who begins to follow. Few tokens are revoked by themselves, so it costs those that are issued nothing.
CREATE INDEX issued_tokens_revoked ON issued_tokens (api_id, jti) WHERE revoked_at IS NOT NULL;
