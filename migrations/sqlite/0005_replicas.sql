-- What replicas share. With SQLite there is one; the tables are those of PostgreSQL.

-- One row. The generation grows with each change of `keys` that others must see.
CREATE TABLE store_state (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    generation INTEGER NOT NULL
) STRICT;
INSERT INTO store_state (id, generation) VALUES (1, 1);

-- What verifiers of a client were told (`hallmark_core::ports::ClientState`).
CREATE TABLE client_states (
    client                TEXT    PRIMARY KEY,
    max_age_high_water_ms INTEGER NOT NULL,
    -- Both set while all replicas serve less than the high water: since when, and the most that was served since.
    lowered_at            INTEGER,
    lowered_to_ms         INTEGER,
    CHECK ((lowered_at IS NULL) = (lowered_to_ms IS NULL))
) STRICT, WITHOUT ROWID;

-- One row an instance that was heard of lately.
CREATE TABLE replicas (
    instance TEXT    PRIMARY KEY,
    heard    INTEGER NOT NULL,
    serving  INTEGER NOT NULL,
    -- Of all its policies together; NULL before it announced them.
    digest   TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE replica_policies (
    instance TEXT NOT NULL REFERENCES replicas (instance) ON DELETE CASCADE,
    client   TEXT NOT NULL,
    digest   TEXT NOT NULL,
    PRIMARY KEY (instance, client)
) STRICT, WITHOUT ROWID;

-- Which replica runs a change.
ALTER TABLE key_changes ADD COLUMN instance TEXT NOT NULL DEFAULT '';
