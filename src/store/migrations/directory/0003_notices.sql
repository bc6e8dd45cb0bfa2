-- What somebody is told, as it was said.
CREATE TABLE notices (
    id      {int} NOT NULL PRIMARY KEY,
    -- NULL: the operator's.
    account {int},
    event   TEXT  NOT NULL,
    subject TEXT  NOT NULL,
    at_ms   {int} NOT NULL,
    facts   TEXT  NOT NULL,
    -- Title and text in each language.
    texts   TEXT  NOT NULL
){row_table};

CREATE INDEX notices_account ON notices (account, id);

-- The ways by which it gets there, and how far it got on each.
CREATE TABLE notice_deliveries (
    notice       {int} NOT NULL,
    n            {int} NOT NULL,
    channel      TEXT  NOT NULL,
    -- NULL: the notice itself is what is read.
    endpoint     {int},
    target       TEXT  NOT NULL,
    state        TEXT  NOT NULL,
    attempts     {int} NOT NULL,
    -- When it is to be attempted; NULL: never again.
    next_at      {int},
    last_error   TEXT,
    delivered_at {int},
    PRIMARY KEY (notice, n)
){key_table};

CREATE INDEX notice_deliveries_due ON notice_deliveries (next_at) WHERE next_at IS NOT NULL;
