-- The tables of `migrations/sqlite`, in PostgreSQL's words. Times are milliseconds since the Unix epoch. Names compare
-- byte by byte, whatever the database's collation.

-- One row a key record (`hallmark_core::key::KeyRecord`).
CREATE TABLE keys (
    -- The order of creation.
    ordinal       BIGINT  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id            TEXT    COLLATE "C" NOT NULL UNIQUE,
    client        TEXT    COLLATE "C",
    alg           TEXT    COLLATE "C" NOT NULL,
    hsm           TEXT    COLLATE "C" NOT NULL,
    purpose       TEXT    COLLATE "C" NOT NULL,
    cka_id        BYTEA   NOT NULL,
    label         TEXT    NOT NULL,
    -- Both unknown until the key has been generated.
    kid           TEXT    COLLATE "C" UNIQUE,
    spki          BYTEA,
    state         TEXT    COLLATE "C" NOT NULL,
    served_for_ms BIGINT  NOT NULL,
    kept_for_ms   BIGINT  NOT NULL,
    created       BIGINT  NOT NULL,
    published     BIGINT,
    activated     BIGINT,
    deactivated   BIGINT,
    retired       BIGINT,
    compromised   BIGINT,
    destroyed     BIGINT,
    -- What an operator confirmed: that the authorization server has it, and that the public URL shows it.
    registered    BIGINT,
    rehearsed     BIGINT,
    origin        TEXT    COLLATE "C" NOT NULL,
    UNIQUE (hsm, cka_id),
    CHECK ((kid IS NULL) = (spki IS NULL)),
    CHECK ((purpose = 'custody') = (client IS NULL))
);

-- A key line has at most one key that signs, and an HSM at most one custody key that does.
CREATE UNIQUE INDEX one_active_key ON keys (client, alg, hsm) WHERE state = 'active' AND purpose = 'assertion';
CREATE UNIQUE INDEX one_active_custody_key ON keys (hsm) WHERE state = 'active' AND purpose = 'custody';

-- A key's certificates in DER, leaf at position 0.
CREATE TABLE certificates (
    key_id   TEXT   COLLATE "C" NOT NULL REFERENCES keys (id),
    position BIGINT NOT NULL,
    der      BYTEA  NOT NULL,
    PRIMARY KEY (key_id, position)
);

-- One row a change that an operator asked for (`hallmark_core::ports::KeyChange`).
CREATE TABLE key_changes (
    id         TEXT   COLLATE "C" PRIMARY KEY,
    request_id TEXT   COLLATE "C" NOT NULL UNIQUE,
    request    TEXT   NOT NULL,
    client     TEXT   COLLATE "C" NOT NULL,
    operator   TEXT   NOT NULL,
    reason     TEXT   NOT NULL,
    state      TEXT   COLLATE "C" NOT NULL,
    created    BIGINT NOT NULL,
    -- Which replica runs it.
    instance   TEXT   COLLATE "C" NOT NULL
);

-- The keys that a change made or moved, in its order.
CREATE TABLE key_change_keys (
    change_id TEXT   COLLATE "C" NOT NULL REFERENCES key_changes (id),
    position  BIGINT NOT NULL,
    key_id    TEXT   COLLATE "C" NOT NULL REFERENCES keys (id),
    PRIMARY KEY (change_id, position)
);

-- Which PIN source was tried on which PKCS#11 token. One row a pair, not one a token: a source that was refused stays
-- refused when another one has been tried since, or two replicas with two PIN files would take turns until it locks.
CREATE TABLE login_attempts (
    token    TEXT   COLLATE "C" NOT NULL,
    source   TEXT   COLLATE "C" NOT NULL,
    -- 1: a try began and was not accepted since.
    marked   BIGINT NOT NULL,
    -- 1: the last verdict on this source was good, and has not been used up by a try without a verdict.
    accepted BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (token, source)
);

-- One row. The generation grows with each change of `keys` that others must see.
CREATE TABLE store_state (
    id         BIGINT PRIMARY KEY CHECK (id = 1),
    generation BIGINT NOT NULL
);
INSERT INTO store_state (id, generation) VALUES (1, 1);

-- What verifiers of a client were told (`hallmark_core::ports::ClientState`).
CREATE TABLE client_states (
    client                TEXT   COLLATE "C" PRIMARY KEY,
    max_age_high_water_ms BIGINT NOT NULL,
    -- Both set while all replicas serve less than the high water: since when, and the most that was served since.
    lowered_at            BIGINT,
    lowered_to_ms         BIGINT,
    CHECK ((lowered_at IS NULL) = (lowered_to_ms IS NULL))
);

-- One row an instance that was heard of lately.
CREATE TABLE replicas (
    instance TEXT   COLLATE "C" PRIMARY KEY,
    heard    BIGINT NOT NULL,
    serving  BIGINT NOT NULL,
    -- Of all its policies together; NULL before it announced them.
    digest   TEXT   COLLATE "C"
);

CREATE TABLE replica_policies (
    instance TEXT COLLATE "C" NOT NULL REFERENCES replicas (instance) ON DELETE CASCADE,
    client   TEXT COLLATE "C" NOT NULL,
    digest   TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (instance, client)
);
