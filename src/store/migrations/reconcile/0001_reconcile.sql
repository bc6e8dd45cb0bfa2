-- Files of others that were read. sha256 is of the file as it came: each is read once in a format.
CREATE TABLE reconcile_imports (
    id       {int}   NOT NULL PRIMARY KEY,
    side     TEXT    NOT NULL,
    scope    TEXT    NOT NULL,
    format   TEXT    NOT NULL,
    join_by  TEXT    NOT NULL,
    file     TEXT    NOT NULL,
    sha256   {bytes} NOT NULL,
    bytes    {int}   NOT NULL,
    row_count {int}  NOT NULL,
    from_ms  {int}   NOT NULL,
    until_ms {int}   NOT NULL,
    -- 1: somebody said which time it covers.
    said     {int}   NOT NULL,
    at_ms    {int}   NOT NULL,
    actor    TEXT    NOT NULL,
    -- loading: its rows are not all there, and nobody looks at them.
    state    TEXT    NOT NULL
){row_table};

CREATE UNIQUE INDEX reconcile_imports_file ON reconcile_imports (format, sha256);

-- Their rows, in the order of the file. amount is in nano-units of the currency.
CREATE TABLE reconcile_rows (
    import   {int} NOT NULL,
    n        {int} NOT NULL,
    line     {int} NOT NULL,
    name     TEXT  NOT NULL,
    alias    TEXT  NOT NULL,
    class    TEXT  NOT NULL,
    amount   {int},
    currency TEXT  NOT NULL,
    at_ms    {int} NOT NULL,
    account  TEXT  NOT NULL,
    body     TEXT  NOT NULL,
    PRIMARY KEY (import, n)
){key_table};

-- Differences between both sides. subject tells a case of one kind from another of the same source.
CREATE TABLE reconcile_cases (
    id        {int} NOT NULL PRIMARY KEY,
    source    TEXT  NOT NULL,
    kind      TEXT  NOT NULL,
    subject   TEXT  NOT NULL,
    state     TEXT  NOT NULL,
    ours      TEXT,
    theirs    TEXT,
    cause     TEXT  NOT NULL,
    proposal  TEXT,
    opened_ms {int} NOT NULL,
    -- The run that saw it last.
    seen_run  {int} NOT NULL,
    closed_ms {int},
    closed_by TEXT,
    reason    TEXT
){row_table};

CREATE UNIQUE INDEX reconcile_cases_subject ON reconcile_cases (source, kind, subject);
CREATE INDEX reconcile_cases_state ON reconcile_cases (state, id);
