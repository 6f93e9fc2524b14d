-- What each follower of `[jwks] followers` acknowledged last, whichever replica it follows.
CREATE TABLE followers (
    identity   TEXT   COLLATE "C" NOT NULL,
    -- Tells it from others of the same identity.
    process    TEXT   COLLATE "C" NOT NULL,
    -- The replica that it said so to.
    instance   TEXT   COLLATE "C" NOT NULL,
    -- The generation of `store_state` that it serves.
    generation BIGINT NOT NULL,
    heard      BIGINT NOT NULL,
    PRIMARY KEY (identity, process)
);
