-- Everything here can be rebuilt from the journal.

-- The request log: one row per request. facts and money are the encoded log row and receipt.
CREATE TABLE requests (
    id      {bytes} NOT NULL PRIMARY KEY,
    account {int}   NOT NULL,
    key     {int}   NOT NULL,
    at_ms   {int}   NOT NULL,
    status  {int}   NOT NULL,
    code    {int}   NOT NULL,
    state   {int}   NOT NULL,
    charge  {int}   NOT NULL,
    facts   {bytes} NOT NULL,
    money   {bytes} NOT NULL
){key_table};

-- The one other way in. Requests of a key are found among those of its account: a second index would
-- cost as much as all the rest of the row (docs/adr/0001-journal-and-storage.md).
CREATE INDEX requests_account ON requests (account, at_ms);

-- Money movements that are not calls: credits, refunds, compensation, adjustments, expiries.
CREATE TABLE movements (
    account   {int}   NOT NULL,
    seq       {int}   NOT NULL,
    at_ms     {int}   NOT NULL,
    kind      {int}   NOT NULL,
    amount    {int}   NOT NULL,
    reference TEXT    NOT NULL,
    body      {bytes} NOT NULL,
    PRIMARY KEY (account, seq)
){key_table};

-- State of the books as of batch n, from which recovery starts.
CREATE TABLE checkpoint (
    name TEXT    NOT NULL PRIMARY KEY,
    n    {int}   NOT NULL,
    body {bytes} NOT NULL
){row_table};

-- The last batch that is projected, per shard.
CREATE TABLE projection_cursor (
    shard {int} NOT NULL PRIMARY KEY,
    n     {int} NOT NULL
){row_table};
