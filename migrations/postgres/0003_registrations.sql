-- What registering a client at its authorization server gave; holds where the configuration has no client_id.
CREATE TABLE registrations (
    client           TEXT   COLLATE "C" PRIMARY KEY,
    client_id        TEXT   COLLATE "C" NOT NULL,
    -- Where the registration is read and changed (RFC 7592).
    registration_uri TEXT   COLLATE "C",
    recorded         BIGINT NOT NULL
);
