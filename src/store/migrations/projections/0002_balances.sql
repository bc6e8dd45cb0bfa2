-- What an account had when a quarter of an hour began: written before the first thing that happened to it within that
-- quarter. Every day and month of every zone begins with one, so a statement's opening and closing is one row, and so is
-- the place of its first line.
CREATE TABLE balances (
    account {int}   NOT NULL,
    at_ms   {int}   NOT NULL,
    -- The first movement from then on has this number or a higher one.
    seq     {int}   NOT NULL,
    balance {int}   NOT NULL,
    held    {int}   NOT NULL,
    -- What of it ends, and when: encoded, for what had expired at which moment.
    ends    {bytes} NOT NULL,
    PRIMARY KEY (account, at_ms)
){key_table};

-- Sums of what calls cost, by day and by all that a report can ask for. A day is that of the account's budgets.
CREATE TABLE costs (
    account     {int}   NOT NULL,
    day_ms      {int}   NOT NULL,
    -- Fingerprint of the columns up to the request type.
    id          {bytes} NOT NULL,
    key         {int}   NOT NULL,
    project     {int}   NOT NULL,
    member      {int}   NOT NULL,
    group_id    {int}   NOT NULL,
    model       TEXT    NOT NULL,
    endpoint    {int}   NOT NULL,
    calls       {int}   NOT NULL,
    charged     {int}   NOT NULL,
    refunds     {int}   NOT NULL,
    refunded    {int}   NOT NULL,
    input       {int}   NOT NULL,
    cache_read  {int}   NOT NULL,
    cache_write {int}   NOT NULL,
    output      {int}   NOT NULL,
    reasoning   {int}   NOT NULL,
    audio_in    {int}   NOT NULL,
    audio_out   {int}   NOT NULL,
    image_in    {int}   NOT NULL,
    PRIMARY KEY (account, day_ms, id)
){key_table};

-- Charges are movements now: everything is built again from the journal at the next start.
DELETE FROM requests;
DELETE FROM movements;
DELETE FROM checkpoint;
DELETE FROM projection_cursor;
