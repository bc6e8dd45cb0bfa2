-- Copies of what tasks made, in storage of the operator's own (ADR 20). A row is written before its object, and an object
-- removed before its row.
CREATE TABLE task_copies (
    task         {int}   NOT NULL,
    -- Of the result, from 0.
    number       {int}   NOT NULL,
    -- pending, kept, failed or removing.
    state        TEXT    NOT NULL,
    -- disk or s3: where the object is, or is to be.
    storage      TEXT    NOT NULL,
    -- The try that wrote, or writes, the object, which is part of its name; null: there is none.
    object       {int},
    -- Parts that have been begun.
    parts        {int}   NOT NULL DEFAULT 0,
    -- What the object is sealed with, sealed with the master key.
    data_key     {bytes},
    content_type TEXT,
    -- Of the result.
    length       {int},
    tries        {int}   NOT NULL DEFAULT 0,
    -- Why the last try failed.
    reason       TEXT,
    -- A result that is not copied by then is given up; a copy that is kept is removed then.
    until_ms     {int}   NOT NULL,
    -- When something is to be done about it; null: never.
    due_ms       {int},
    version      {int}   NOT NULL,
    PRIMARY KEY (task, number)
){key_table};

CREATE INDEX task_copies_due ON task_copies (due_ms);

-- How the copies of a task stand, all in one: pending, kept, failed or removed; null: there were never any.
ALTER TABLE tasks ADD COLUMN copy_state TEXT;
-- When the first of them is removed.
ALTER TABLE tasks ADD COLUMN copy_expires_ms {int};
ALTER TABLE tasks ADD COLUMN copy_failure TEXT;
