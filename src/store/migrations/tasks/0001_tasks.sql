-- Image and video tasks. Amounts are nano-units of the ledger currency. No prompt is kept: prompt_hash and
-- fingerprint recognise one again.
CREATE TABLE tasks (
    id             {int}   NOT NULL PRIMARY KEY,
    -- The call that submitted it: its row of the log, its hold, its receipt.
    request        {bytes} NOT NULL,
    account        {int}   NOT NULL,
    environment    TEXT    NOT NULL,
    api_key        {int}   NOT NULL,
    project        {int},
    channel        {int}   NOT NULL,
    -- Place of the credential among those of the channel: another one may be another account there.
    credential     {int}   NOT NULL,
    kind           TEXT    NOT NULL,
    model          TEXT    NOT NULL,
    upstream_model TEXT    NOT NULL,
    resolution     TEXT,
    ratio          TEXT,
    -- Asked for, and what the upstream produced: milliseconds.
    duration_ms    {int}   NOT NULL,
    used_ms        {int},
    -- SHA-256 of each reference image, in hexadecimal digits, with blanks between them.
    reference_hashes TEXT  NOT NULL,
    prompt_hash    {bytes} NOT NULL,
    fingerprint    {bytes} NOT NULL,
    state          TEXT    NOT NULL,
    progress       {int}   NOT NULL,
    failure_code   TEXT,
    failure_text   TEXT,
    upstream_id    TEXT,
    result_expires_ms {int},
    price          {int}   NOT NULL,
    -- Row of its table of units.
    price_row      {int}   NOT NULL,
    multiplier_ppm {int}   NOT NULL,
    hold_nano      {int}   NOT NULL,
    -- held, settled or released: what the ledger did; it follows the state.
    money          TEXT    NOT NULL,
    charged_nano   {int}   NOT NULL,
    attempts       {int}   NOT NULL,
    duplicates     {int}   NOT NULL,
    -- When the task is looked at next; null: never by itself. How often it was.
    poll_ms        {int},
    polls          {int}   NOT NULL,
    deadline_ms    {int}   NOT NULL,
    created_ms     {int}   NOT NULL,
    submitted_ms   {int},
    ended_ms       {int},
    deleted_ms     {int},
    version        {int}   NOT NULL
){key_table};

CREATE INDEX tasks_account ON tasks (account, id);
CREATE INDEX tasks_state ON tasks (state, id);
CREATE INDEX tasks_poll ON tasks (poll_ms);
CREATE INDEX tasks_request ON tasks (request);
CREATE INDEX tasks_fingerprint ON tasks (api_key, fingerprint, created_ms);
CREATE INDEX tasks_upstream ON tasks (channel, upstream_id);
