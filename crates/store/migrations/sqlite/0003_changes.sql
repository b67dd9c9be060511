-- Where each credential stands in the status list (protocol 29): given when it is generated, never again to another.
ALTER TABLE credentials ADD COLUMN status_index INTEGER;
UPDATE credentials SET status_index = (SELECT COUNT(*) FROM credentials o WHERE (o.generated_at, o.client_id) < (credentials.generated_at, credentials.client_id));
CREATE UNIQUE INDEX credentials_status_index ON credentials (status_index);
