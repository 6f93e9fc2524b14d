-- What the HSM's maker attests of a key, in DER, the key's own certificate at position 0. Written once.
CREATE TABLE attestations (
    key_id   TEXT    NOT NULL REFERENCES keys (id),
    position INTEGER NOT NULL,
    der      BLOB    NOT NULL,
    PRIMARY KEY (key_id, position)
) STRICT, WITHOUT ROWID;
