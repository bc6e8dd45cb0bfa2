-- Redemption codes, made in batches. value_nano is of the ledger currency. expires_ms is the end of the codes;
-- credit_expires_ms or credit_days, at most one of them, the end of the credit that they give.
CREATE TABLE code_batches (
    id                {int} NOT NULL PRIMARY KEY,
    value_nano        {int} NOT NULL,
    count             {int} NOT NULL,
    kind              {int} NOT NULL,
    priority          {int} NOT NULL,
    expires_ms        {int},
    credit_expires_ms {int},
    credit_days       {int},
    per_account_max   {int},
    note              TEXT  NOT NULL,
    disabled_ms       {int},
    disabled_by       TEXT,
    disabled_reason   TEXT,
    created_by        TEXT  NOT NULL,
    created_ms        {int} NOT NULL,
    version           {int} NOT NULL
){key_table};

-- A code is known by its keyed hash alone. account and what follows are of its redemption.
CREATE TABLE codes (
    id                {int}   NOT NULL PRIMARY KEY,
    batch             {int}   NOT NULL,
    hash              {bytes} NOT NULL,
    masked            TEXT    NOT NULL,
    state             TEXT    NOT NULL,
    account           {int},
    redeemed_by       TEXT,
    lot               {int},
    credit_expires_ms {int},
    marked_ms         {int},
    redeemed_ms       {int},
    disabled_ms       {int},
    disabled_by       TEXT,
    disabled_reason   TEXT,
    version           {int}   NOT NULL
){key_table};

CREATE UNIQUE INDEX codes_hash ON codes (hash);
CREATE INDEX codes_batch ON codes (batch, id);
CREATE INDEX codes_account ON codes (account, id);
CREATE INDEX codes_state ON codes (state, id);
