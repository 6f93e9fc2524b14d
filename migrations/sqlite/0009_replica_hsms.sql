-- What each replica says of the HSMs that it has: whoever sweeps may not reach all of them. With SQLite there is one
-- replica; the table is that of PostgreSQL.
CREATE TABLE replica_hsms (
    instance TEXT    NOT NULL REFERENCES replicas (instance) ON DELETE CASCADE,
    hsm      TEXT    NOT NULL,
    up       INTEGER NOT NULL,
    -- 1: this replica sweeps.
    leads    INTEGER NOT NULL,
    -- JSON lists: keys that can't be used, and lines in which an act failed.
    unusable TEXT    NOT NULL,
    failed   TEXT    NOT NULL,
    PRIMARY KEY (instance, hsm)
) STRICT, WITHOUT ROWID;
