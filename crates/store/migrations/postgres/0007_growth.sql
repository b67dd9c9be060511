-- Growth: what is asked for often is found without a look through all there is.

-- The earliest and the latest instant of each whole run of 2048 audit records, by number / 2048: a filter by
-- time finds its records by it, also where a clock was set back. Made afterwards, by whoever tidies up.
CREATE TABLE audit_runs (
    run      BIGINT PRIMARY KEY,
    earliest BIGINT NOT NULL,
    latest   BIGINT NOT NULL
);

-- The indexes that belong to it are made by the program, beside whatever else goes on: src/indexes.rs.
