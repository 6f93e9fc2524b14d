-- Which PIN source was tried on which PKCS#11 token. One row a pair, not one a token: a source that was refused stays
-- refused when another one has been tried since, or two replicas with two PIN files would take turns until it locks.
CREATE TABLE login_attempts (
    token    TEXT    NOT NULL,
    source   TEXT    NOT NULL,
    -- 1: a try began and was not accepted since.
    marked   INTEGER NOT NULL,
    -- 1: the last verdict on this source was good, and has not been used up by a try without a verdict.
    accepted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (token, source)
) STRICT, WITHOUT ROWID;
