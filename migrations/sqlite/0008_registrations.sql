-- What registering a client at its authorization server gave; holds where the configuration has no client_id.
CREATE TABLE registrations (
    client           TEXT    PRIMARY KEY,
    client_id        TEXT    NOT NULL,
    -- Where the registration is read and changed (RFC 7592).
    registration_uri TEXT,
    recorded         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
