-- Each row's hash covers the row and the hash of the row before it; null: written before there was a chain.
ALTER TABLE directory_log ADD COLUMN hash {bytes};
