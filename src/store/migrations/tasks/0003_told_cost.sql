-- What the upstream bills for a task, where it tells that: nano-units of the ledger currency.
ALTER TABLE tasks ADD COLUMN cost_nano {int};
