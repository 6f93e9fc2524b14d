-- What is kept of a change that waits for a second operator, or waited (`hallmark_core::ports::Proposed`).
CREATE TABLE approvals (
    change_id       TEXT    PRIMARY KEY REFERENCES key_changes (id),
    -- All that it takes to carry it out: JSON.
    payload         TEXT    NOT NULL,
    -- What it was going to do when it was proposed: a JSON array of sentences.
    plan            TEXT    NOT NULL,
    -- What tells the proposer's certificate from others.
    credential      TEXT    NOT NULL,
    expires         INTEGER NOT NULL,
    -- All NULL until somebody decides; 1: approved, 0: denied.
    approved        INTEGER,
    decided_by      TEXT,
    decision_reason TEXT,
    CHECK ((approved IS NULL) = (decided_by IS NULL)),
    CHECK ((approved IS NULL) = (decision_reason IS NULL))
) STRICT, WITHOUT ROWID;
