-- Refunds of charges, compensation and adjustments: who asked for what and why, who agreed, what became of it.
-- amount_nano is of the ledger currency, negative for an adjustment that takes. request: the call that it is about.
CREATE TABLE corrections (
    id              {int} NOT NULL PRIMARY KEY,
    kind            TEXT  NOT NULL,
    state           TEXT  NOT NULL,
    account         {int} NOT NULL,
    book            {int} NOT NULL,
    amount_nano     {int} NOT NULL,
    request         {bytes},
    -- The lot that it opens, if it opens one.
    lot             {int} NOT NULL,
    lot_kind        {int} NOT NULL,
    priority        {int} NOT NULL,
    expires_ms      {int},
    arrears         {int} NOT NULL,
    reference       TEXT  NOT NULL,
    reason          TEXT  NOT NULL,
    proposed_by     TEXT  NOT NULL,
    proposed_ms     {int} NOT NULL,
    needs_approval  {int} NOT NULL,
    decided_by      TEXT,
    decided_ms      {int},
    decision_reason TEXT,
    posted_ms       {int},
    problem         TEXT,
    version         {int} NOT NULL
){key_table};

CREATE UNIQUE INDEX corrections_reference ON corrections (reference);
CREATE INDEX corrections_account ON corrections (account, id);
CREATE INDEX corrections_state ON corrections (state, id);
CREATE INDEX corrections_request ON corrections (request);
