-- What each follower of `[jwks] followers` acknowledged last, whichever replica it follows.
CREATE TABLE followers (
    identity   TEXT    NOT NULL,
    -- Tells it from others of the same identity.
    process    TEXT    NOT NULL,
    -- The replica that it said so to.
    instance   TEXT    NOT NULL,
    -- The generation of `store_state` that it serves.
    generation INTEGER NOT NULL,
    heard      INTEGER NOT NULL,
    PRIMARY KEY (identity, process)
) STRICT, WITHOUT ROWID;
