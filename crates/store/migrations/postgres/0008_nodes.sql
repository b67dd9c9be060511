-- Several nodes: whose turn a job is, and which releases can work beside this schema.

-- A job that is done by one node at a time, and not again before its interval is over.
CREATE TABLE turns (
    job     TEXT    PRIMARY KEY,
    holder  UUID    NOT NULL,                 -- the process that does it, or did it last
    until   BIGINT  NOT NULL,                 -- nobody else's until then, unless it is given back
    done_at BIGINT                            -- when it was last done to the end
);

-- The oldest schema version whose release can work beside the present one. A migration that an older
-- release cannot work beside raises it.
CREATE TABLE schema_works_with (
    id     BIGINT  PRIMARY KEY CHECK (id = 1),
    oldest BIGINT  NOT NULL
);
INSERT INTO schema_works_with (id, oldest) VALUES (1, 6);
