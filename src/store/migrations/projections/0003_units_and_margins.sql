-- What is sold by something else than tokens, and what calls bring beside what upstreams bill for them.

-- Sums of what calls cost, by day and by all that a report can ask for. A day is that of the account's budgets.
DROP TABLE costs;
CREATE TABLE costs (
    account      {int}   NOT NULL,
    day_ms       {int}   NOT NULL,
    -- Fingerprint of the columns up to the unit.
    id           {bytes} NOT NULL,
    key          {int}   NOT NULL,
    project      {int}   NOT NULL,
    member       {int}   NOT NULL,
    group_id     {int}   NOT NULL,
    model        TEXT    NOT NULL,
    endpoint     {int}   NOT NULL,
    -- What was sold, as the ledger numbers it; 0: nothing, or not known.
    unit         {int}   NOT NULL,
    calls        {int}   NOT NULL,
    charged      {int}   NOT NULL,
    refunds      {int}   NOT NULL,
    refunded     {int}   NOT NULL,
    input        {int}   NOT NULL,
    cache_read   {int}   NOT NULL,
    cache_write  {int}   NOT NULL,
    output       {int}   NOT NULL,
    reasoning    {int}   NOT NULL,
    audio_in     {int}   NOT NULL,
    audio_out    {int}   NOT NULL,
    image_in     {int}   NOT NULL,
    images       {int}   NOT NULL,
    milliseconds {int}   NOT NULL,
    characters   {int}   NOT NULL,
    searches     {int}   NOT NULL,
    PRIMARY KEY (account, day_ms, id)
){key_table};

-- What calls were charged beside what their attempts cost, by day in UTC, channel and model.
CREATE TABLE margins (
    day_ms          {int}   NOT NULL,
    -- Fingerprint of the columns up to the model.
    id              {bytes} NOT NULL,
    -- 0: live, 1: test.
    book            {int}   NOT NULL,
    -- 0: not known any more.
    channel         {int}   NOT NULL,
    model           TEXT    NOT NULL,
    calls           {int}   NOT NULL,
    charged         {int}   NOT NULL,
    refunded        {int}   NOT NULL,
    failed          {int}   NOT NULL,
    served_cost     {int}   NOT NULL,
    failed_cost     {int}   NOT NULL,
    estimated_cost  {int}   NOT NULL,
    unknown_served  {int}   NOT NULL,
    unknown_failed  {int}   NOT NULL,
    -- Of what was charged and refunded: where nobody knows the cost.
    unknown_net     {int}   NOT NULL,
    PRIMARY KEY (day_ms, id)
){key_table};

-- Both are summed from the journal's first batch at the next start; rows of the other tables are written anew as they are.
DELETE FROM checkpoint;
DELETE FROM projection_cursor;
