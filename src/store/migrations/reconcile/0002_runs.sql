-- The last comparison. Without an end it was interrupted, and the next goes on from there.
CREATE TABLE reconcile_runs (
    run      {int} NOT NULL PRIMARY KEY,
    is_full  {int} NOT NULL,
    began_ms {int} NOT NULL,
    actor    TEXT  NOT NULL,
    ended_ms {int}
){row_table};

-- How far it came with each source. files tells which imports were compared; waiting are rows that may yet find a partner.
CREATE TABLE reconcile_steps (
    run     {int}   NOT NULL,
    source  TEXT    NOT NULL,
    files   TEXT    NOT NULL,
    body    TEXT    NOT NULL,
    waiting {bytes} NOT NULL,
    PRIMARY KEY (run, source)
){key_table};

-- Corrections that were made of a case, by their ids, a blank between two.
ALTER TABLE reconcile_cases ADD COLUMN corrections TEXT NOT NULL DEFAULT '';
