-- What each replica says of the HSMs that it has: whoever sweeps may not reach all of them.
CREATE TABLE replica_hsms (
    instance TEXT   COLLATE "C" NOT NULL REFERENCES replicas (instance) ON DELETE CASCADE,
    hsm      TEXT   COLLATE "C" NOT NULL,
    up       BIGINT NOT NULL,
    -- 1: this replica sweeps.
    leads    BIGINT NOT NULL,
    -- JSON lists: keys that can't be used, and lines in which an act failed.
    unusable TEXT   NOT NULL,
    failed   TEXT   NOT NULL,
    PRIMARY KEY (instance, hsm)
);
