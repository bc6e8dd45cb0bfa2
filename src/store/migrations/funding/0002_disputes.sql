-- Money of an order that the payer's bank wants back. pay_nano of the currency that was paid; credit_nano: what it takes
-- from the account; returned_nano: what the account gets back of it once it is won.
CREATE TABLE order_disputes (
    order_id      {int} NOT NULL,
    dispute       TEXT  NOT NULL,
    stage         TEXT  NOT NULL,
    pay_nano      {int} NOT NULL,
    credit_nano   {int} NOT NULL,
    returned_nano {int} NOT NULL,
    at_ms         {int} NOT NULL,
    PRIMARY KEY (order_id, dispute)
){key_table};

-- 1: the provider has sent it by itself.
ALTER TABLE order_refunds ADD COLUMN elsewhere {int} NOT NULL DEFAULT 0;
