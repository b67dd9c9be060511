-- Several nodes: whose turn a job is, and which releases can work beside this schema.

-- A job that is done by one node at a time, and not again before its interval is over.
CREATE TABLE turns (
    job     TEXT    PRIMARY KEY,
    holder  BLOB    NOT NULL,                 -- the process that does it, or did it last
    until   INTEGER NOT NULL,                 -- nobody else's until then, unless it is given back
    done_at INTEGER                           -- when it was last done to the end
) STRICT;

-- The oldest schema version whose release can work beside the present one. A migration that an older
-- release cannot work beside raises it.
CREATE TABLE schema_works_with (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    oldest INTEGER NOT NULL
) STRICT;
INSERT INTO schema_works_with (id, oldest) VALUES (1, 6);
