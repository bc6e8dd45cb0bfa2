-- Orders of money that is to come in. Amounts are nano-units: credit_nano of the ledger currency, pay_nano of
-- pay_currency.
CREATE TABLE orders (
    id             {int} NOT NULL PRIMARY KEY,
    account        {int} NOT NULL,
    state          TEXT  NOT NULL,
    provider       TEXT  NOT NULL,
    method         TEXT,
    credit_nano    {int} NOT NULL,
    pay_nano       {int} NOT NULL,
    pay_currency   TEXT  NOT NULL,
    rate_ppm       {int} NOT NULL,
    -- The lot that the credit opens.
    lot            {int} NOT NULL,
    -- The provider's own number of the order, and of the payment in it.
    provider_ref   TEXT,
    payment_ref    TEXT,
    pay_url        TEXT,
    qr             TEXT,
    -- Who paid, as the provider names them; who made the order.
    payer          TEXT,
    created_by     TEXT  NOT NULL,
    paid_nano      {int},
    paid_currency  TEXT,
    created_ms     {int} NOT NULL,
    expires_ms     {int} NOT NULL,
    paid_ms        {int},
    notified_ms    {int},
    credited_ms    {int},
    refunded_pay   {int} NOT NULL,
    refunded_nano  {int} NOT NULL,
    -- When the order is looked at next; null: never by itself. How often it was.
    poll_ms        {int},
    polls          {int} NOT NULL,
    version        {int} NOT NULL
){key_table};

CREATE INDEX orders_account ON orders (account, id);
CREATE INDEX orders_state ON orders (state, id);
CREATE INDEX orders_poll ON orders (poll_ms);
CREATE UNIQUE INDEX orders_provider_ref ON orders (provider, provider_ref);
CREATE INDEX orders_payment_ref ON orders (provider, payment_ref);

-- What happened to orders, oldest first; callbacks exactly as they came, also the refused ones. order_id is null
-- for a callback that names no order of ours.
CREATE TABLE order_events (
    id       {int} NOT NULL PRIMARY KEY,
    order_id {int},
    provider TEXT  NOT NULL,
    at_ms    {int} NOT NULL,
    kind     TEXT  NOT NULL,
    name     TEXT,
    verdict  TEXT,
    effect   TEXT  NOT NULL,
    detail   TEXT,
    actor    TEXT  NOT NULL,
    headers  TEXT,
    body     {bytes}
){key_table};

CREATE INDEX order_events_order ON order_events (order_id, id);

-- Money that goes back to who paid. n counts from 1 in its order.
CREATE TABLE order_refunds (
    order_id     {int} NOT NULL,
    n            {int} NOT NULL,
    state        TEXT  NOT NULL,
    pay_nano     {int} NOT NULL,
    credit_nano  {int} NOT NULL,
    arrears      {int} NOT NULL,
    reason       TEXT  NOT NULL,
    actor        TEXT  NOT NULL,
    provider_ref TEXT,
    at_ms        {int} NOT NULL,
    done_ms      {int},
    PRIMARY KEY (order_id, n)
){key_table};
