-- The authority of the books: one row per commit, hash-chained (see src/store/chain.rs).
-- effects are kept for ever; facts may be purged (NULL), their hash stays.
CREATE TABLE journal (
    shard      {int}   NOT NULL,
    epoch      {int}   NOT NULL,
    n          {int}   NOT NULL,
    at_ms      {int}   NOT NULL,
    prev_hash  {bytes} NOT NULL,
    hash       {bytes} NOT NULL,
    facts_hash {bytes} NOT NULL,
    effects    {bytes} NOT NULL,
    facts      {bytes},
    PRIMARY KEY (shard, n)
){row_table};

-- Who may append. A new owner raises the epoch; an append carries its epoch and fails once it is old.
CREATE TABLE books_owner (
    shard    {int} NOT NULL PRIMARY KEY,
    epoch    {int} NOT NULL,
    node     TEXT  NOT NULL,
    until_ms {int} NOT NULL
){row_table};
