-- Corrections that somebody asked for and that are not among those of the case yet, as JSON: a crash is put right from it.
ALTER TABLE reconcile_cases ADD COLUMN begun TEXT;
