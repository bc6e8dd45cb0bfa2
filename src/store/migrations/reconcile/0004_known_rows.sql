-- Rows of a file that an earlier one of the same counterpart had, too.
ALTER TABLE reconcile_imports ADD COLUMN known_count {int} NOT NULL DEFAULT 0;
