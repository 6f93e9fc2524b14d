-- One row a change that an operator asked for (`hallmark_core::ports::KeyChange`).
CREATE TABLE key_changes (
    id         TEXT    PRIMARY KEY,
    request_id TEXT    NOT NULL UNIQUE,
    request    TEXT    NOT NULL,
    client     TEXT    NOT NULL,
    operator   TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    created    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The keys that a change made or moved, in its order.
CREATE TABLE key_change_keys (
    change_id TEXT    NOT NULL REFERENCES key_changes (id),
    position  INTEGER NOT NULL,
    key_id    TEXT    NOT NULL REFERENCES keys (id),
    PRIMARY KEY (change_id, position)
) STRICT, WITHOUT ROWID;
