-- Plain credits and refunds of orders are corrections, too: a refund of an order names it, and what goes back to who paid.
ALTER TABLE corrections ADD COLUMN order_id {int};
ALTER TABLE corrections ADD COLUMN pay_nano {int};

-- The correction that asked for a refund: it makes one.
ALTER TABLE order_refunds ADD COLUMN correction {int};

CREATE INDEX orders_by_payer ON orders (payer) WHERE payer IS NOT NULL;

-- Guesses at redemption codes, so that a start forgets none.
CREATE TABLE code_misses (
    source   TEXT  NOT NULL PRIMARY KEY,
    since_ms {int} NOT NULL,
    misses   {int} NOT NULL
){key_table};
