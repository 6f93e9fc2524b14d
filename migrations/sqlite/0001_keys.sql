-- One row a key record (`hallmark_core::key::KeyRecord`). Times are milliseconds since the Unix epoch.
CREATE TABLE keys (
    -- The order of creation.
    ordinal       INTEGER PRIMARY KEY,
    id            TEXT    NOT NULL UNIQUE,
    client        TEXT,
    alg           TEXT    NOT NULL,
    hsm           TEXT    NOT NULL,
    purpose       TEXT    NOT NULL,
    cka_id        BLOB    NOT NULL,
    label         TEXT    NOT NULL,
    -- Both unknown until the key has been generated.
    kid           TEXT    UNIQUE,
    spki          BLOB,
    state         TEXT    NOT NULL,
    served_for_ms INTEGER NOT NULL,
    created       INTEGER NOT NULL,
    published     INTEGER,
    activated     INTEGER,
    deactivated   INTEGER,
    retired       INTEGER,
    compromised   INTEGER,
    destroyed     INTEGER,
    origin        TEXT    NOT NULL,
    UNIQUE (hsm, cka_id),
    CHECK ((kid IS NULL) = (spki IS NULL)),
    CHECK ((purpose = 'custody') = (client IS NULL))
) STRICT;

-- A key line has at most one key that signs, and an HSM at most one custody key that does.
CREATE UNIQUE INDEX one_active_key ON keys (client, alg, hsm) WHERE state = 'active' AND purpose = 'assertion';
CREATE UNIQUE INDEX one_active_custody_key ON keys (hsm) WHERE state = 'active' AND purpose = 'custody';

-- A key's certificates in DER, leaf at position 0.
CREATE TABLE certificates (
    key_id   TEXT    NOT NULL REFERENCES keys (id),
    position INTEGER NOT NULL,
    der      BLOB    NOT NULL,
    PRIMARY KEY (key_id, position)
) STRICT, WITHOUT ROWID;
